"""The engines, one line each. To add one: its folder beside these, a line here, its text half in codegen."""

from __future__ import annotations

from fp4cc.passes.engines.none.lower import lower_elementwise
from fp4cc.passes.engines.spec import Engines, EngineSpec, multiplies
from fp4cc.passes.engines.tcgen05.lower import lower_tcgen05
from fp4cc.passes.engines.wgmma.lower import lower_wgmma
from fp4cc.passes.engines.wgmma_rs.lower import accepts as accepts_wgmma_rs
from fp4cc.passes.engines.wgmma_rs.lower import lower_wgmma_rs
from fp4cc.targets import CHIPS, SM90A, TARGETS

ENGINES = Engines([
    EngineSpec("none", lambda k, _: not multiplies(k), lambda k, target: lower_elementwise(k, CHIPS[target])),
    EngineSpec("tcgen05", lambda _, target: target in TARGETS, lambda k, target: lower_tcgen05(k, TARGETS[target])),
    EngineSpec("wgmma_rs", accepts_wgmma_rs, lambda k, _: lower_wgmma_rs(k)),
    EngineSpec("wgmma", lambda _, target: target == SM90A.name, lambda k, _: lower_wgmma(k)),
])  # fmt: skip
