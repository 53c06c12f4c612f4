"""Lowering: a typed kernel and a target in, every number decided out."""

from __future__ import annotations

from dataclasses import replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.verify_lowered import verify_lowered
from fp4cc.passes.choice.schedule import applicable
from fp4cc.passes.engines.none.lower import lower_elementwise
from fp4cc.passes.engines.tcgen05.lower import lower_tcgen05
from fp4cc.passes.engines.wgmma.lower import lower_wgmma
from fp4cc.passes.epilogue.blocks import TooNarrow
from fp4cc.passes.problem.limits import check_limits, check_tiles, too_large
from fp4cc.passes.rewrites.launches import join
from fp4cc.passes.rewrites.split import split
from fp4cc.passes.rewrites.symbols import lowered_by_marks
from fp4cc.passes.rewrites.wide import split_wide
from fp4cc.targets import CHIPS, NAMES, SM90A, TARGETS, target_help
from fp4rt.sizes import SizeError


def lower(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel whose static dims are set (`Dim.value`).

    Where schedule blocks have conditions on dynamic dims, the result carries one variant for each, in source order,
    before the plan that always applies. Raises DiagnosticError for what the target or this compiler cannot do.
    """
    if target not in NAMES:
        raise DiagnosticError([
            error("FP4012", f"kernels cannot be compiled for {target} yet", kernel.span, help=target_help(target)),
        ])  # fmt: skip
    check_limits(kernel, Sizes.of(kernel.dims))
    try:
        plan = verify_lowered(lowered_by_marks(kernel, lambda marked: _lower_launches(marked, target)))
        return check_tiles(plan)
    except SizeError as problem:
        raise too_large(kernel, problem) from problem


def _lower_launches(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel of one launch or of two."""
    parts = split(kernel)
    if parts is None:
        try:
            return _lower(kernel, target)
        except TooNarrow as narrow:
            parts = split_wide(kernel, narrow.n_axis, narrow.columns)
            if parts is None:
                raise
    return join(kernel, parts, _lower(parts.first, target), _lower(parts.second, target))


def _lower(kernel: Kernel, target: str) -> LoweredKernel:
    """Lower a kernel of one launch."""
    if not any(value.op == "matmul" for value in kernel.values):
        plans = lower_elementwise(kernel, CHIPS[target], applicable(kernel, Sizes.of(kernel.dims), target))
    elif target == SM90A.name:
        plans = lower_wgmma(kernel)
    else:
        plans = lower_tcgen05(kernel, TARGETS[target])
    return replace(plans[-1], variants=tuple(plans[:-1]))
