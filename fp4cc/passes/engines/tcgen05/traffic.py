"""What the time model asks of a kernel: the bytes of a stage and of the whole problem, and what converting costs."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.ir.kernel import Constraint, Kernel
from fp4cc.ir.lowered import Conversion, Operand, Problem
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.estimate import Shape, Stream, Traffic
from fp4cc.passes.engines.tcgen05.mainloops import Fit, Shared, most_columns
from fp4cc.passes.feeds.converters import plan_conversions, stage_clocks
from fp4cc.passes.feeds.steps import Steps
from fp4cc.passes.resources.smem import ATOM_BYTES
from fp4cc.targets import Target

#: The tile whose conversions are counted; each grows with its rows.
_COLUMNS = 128
#: One whose scales TMA cannot bring, where that depends on the width.
_NARROW = 96


def plan_traffic(
    kernel: Kernel,
    problem: Problem,
    shared: Sequence[Shared],
    fit: Fit,
    target: Target,
    shape: Shape,
    sizes: Sizes,
    required: Sequence[Constraint],
) -> Traffic:
    """What the time model asks of the first mainloop, and the bytes of the whole problem."""
    most = most_columns(problem, kernel)
    wide, narrow = (
        plan_conversions(kernel, problem, [shared[0].steps(target, 1, n)], sizes, required, most)[0][0]
        for n in (_COLUMNS, _NARROW)
    )
    first, several = wide, range(len(wide.products))
    return Traffic(
        tile_k=first.tile_k,
        a=_stream(first, Part("A"), target),
        bs=tuple(_stream(wide, Part("B", place), target) for place in several),
        narrow_bs=tuple(_stream(narrow, Part("B", place), target) for place in several),
        instructions=first.mmas[0].instructions_per_tile_k,
        global_bytes=global_bytes(kernel, shared, shape),
        accumulators=len(problem.accumulators),
        overlapped_n=max((n for n in (*target.tile_n, *target.narrow_n) if fit.memory(1, n, 2) is not None), default=0),
    )


def _stream(steps: Steps, part: Part, target: Target) -> Stream:
    """An operand's codes in a part of a stage, and its scales in another."""
    by_part: dict[Part, Conversion] = {conversion.part: conversion for conversion in steps.conversions}
    codes, scales = by_part.get(part), by_part.get(part.of_scales)
    atoms = steps.mmas[0].atoms
    return Stream(
        rows=0 if codes else target.tile_k_bytes,
        own_rows=codes.stage_bytes / codes.extent if codes else 0.0,
        row_clocks=stage_clocks(codes) / codes.extent if codes else 0.0,
        runs=0 if scales else atoms * ATOM_BYTES,
        own_runs=scales.stage_bytes / scales.extent if scales else 0.0,
        run_clocks=stage_clocks(scales) / scales.extent if scales else 0.0,
    )


def global_bytes(kernel: Kernel, shared: Sequence[Shared], shape: Shape) -> float:
    """Bytes of all operands and results, each once."""
    outputs = sum(4 if arg.dtype == "f32" else 2 for arg in kernel.args if arg.direction in ("out", "inout"))
    operands = {o.arg: o for group in shared for product in group.products for o in (product.a, product.b)}
    total = float(shape.m * shape.n * outputs * shape.batch)
    for operand in operands.values():
        rows = shape.m if operand.role == "A" else shape.n
        total += rows * _row_bytes(operand, shape.k) * (shape.batch if operand.batched else 1)
    return total


def _row_bytes(operand: Operand, k: int) -> float:
    """Bytes of a row of codes and scales."""
    codes = k * operand.bits / 8
    if not operand.scaled or operand.format.scale is None:
        return codes
    rows, columns = operand.format.stored
    scales = k / columns if isinstance(columns, int) else 1
    return codes + (scales / rows if isinstance(rows, int) else 0)
