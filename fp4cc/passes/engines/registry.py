"""The engines, one line each. To add one: its folder beside these, a line here, its text half in codegen."""

from __future__ import annotations

from fp4cc.ir.kernel import Kernel
from fp4cc.passes.engines.decode.facts import decode_facts
from fp4cc.passes.engines.decode.lower import decode_candidates, lower_decode, only_auto, takes_few_rows
from fp4cc.passes.engines.none.lower import lower_elementwise
from fp4cc.passes.engines.spec import Engines, EngineSpec
from fp4cc.passes.engines.tcgen05.facts import tcgen05_facts
from fp4cc.passes.engines.tcgen05.lower import lower_tcgen05, tcgen05_blocks, tcgen05_candidates, tcgen05_variations
from fp4cc.passes.engines.wgmma.facts import wgmma_facts
from fp4cc.passes.engines.wgmma.lower import lower_wgmma, wgmma_blocks, wgmma_candidates, wgmma_variations
from fp4cc.passes.engines.wgmma_fp8.facts import wgmma_fp8_facts
from fp4cc.passes.engines.wgmma_fp8.lower import (
    lower_wgmma_fp8,
    takes_fp8,
    wgmma_fp8_blocks,
    wgmma_fp8_candidates,
    wgmma_fp8_variations,
)
from fp4cc.passes.engines.wgmma_rs.facts import wgmma_rs_facts
from fp4cc.passes.engines.wgmma_rs.lower import (
    lower_wgmma_rs,
    takes_weights,
    wgmma_rs_blocks,
    wgmma_rs_candidates,
    wgmma_rs_variations,
)
from fp4cc.passes.engines.wgmma_rs.schedule import obeys
from fp4cc.passes.problem.roles import multiplies
from fp4cc.targets import CHIPS, SM90A, TARGETS


def _on_tcgen05(kernel: Kernel, target: str) -> bool:
    return target in TARGETS and multiplies(kernel)


ENGINES = Engines([
    EngineSpec(
        "none",
        lambda kernel, _target, _bounds: not multiplies(kernel),
        lambda kernel, target, cases: lower_elementwise(kernel, CHIPS[target], cases),
    ),
    EngineSpec(
        "tcgen05",
        lambda _kernel, target, _bounds: target in TARGETS,
        lambda kernel, target, cases: lower_tcgen05(kernel, TARGETS[target], cases),
        lambda kernel, target: tcgen05_candidates(kernel, TARGETS[target]) if _on_tcgen05(kernel, target) else [],
        facts=tcgen05_facts,
        blocks=lambda kernel, target: tcgen05_blocks(kernel, TARGETS[target]) if _on_tcgen05(kernel, target) else [],
        variations=tcgen05_variations,
    ),
    EngineSpec(
        "decode",
        takes_few_rows,
        lambda kernel, _target, cases: [lower_decode(kernel, case) for case in cases],
        decode_candidates,
        decode_facts,
        only_auto,
    ),
    EngineSpec(
        "wgmma_rs",
        takes_weights,
        lambda kernel, _target, cases: lower_wgmma_rs(kernel, cases),
        wgmma_rs_candidates,
        wgmma_rs_facts,
        obeys,
        wgmma_rs_blocks,
        wgmma_rs_variations,
    ),
    EngineSpec(
        "wgmma_fp8",
        takes_fp8,
        lambda kernel, _target, cases: lower_wgmma_fp8(kernel, cases),
        wgmma_fp8_candidates,
        wgmma_fp8_facts,
        blocks=wgmma_fp8_blocks,
        variations=wgmma_fp8_variations,
    ),
    EngineSpec(
        "wgmma",
        lambda _kernel, target, _bounds: target == SM90A.name,
        lambda kernel, _target, cases: lower_wgmma(kernel, cases),
        lambda kernel, target: wgmma_candidates(kernel) if target == SM90A.name and multiplies(kernel) else [],
        facts=wgmma_facts,
        blocks=wgmma_blocks,
        variations=wgmma_variations,
    ),
])  # fmt: skip
