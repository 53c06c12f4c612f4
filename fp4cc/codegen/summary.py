"""The emitted file's header: the spec it comes from and the plan in a few lines."""

from __future__ import annotations

import textwrap

from fp4cc.ir.kernel import Axis, Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4rt.sizes import text

_WIDTH = 110


def title(lowered: LoweredKernel) -> str:
    """One line: what the kernel computes, in kinds."""
    a, b = lowered.problem.a, lowered.problem.b
    return f"{lowered.name}: {a.arg} ({a.format.name}) times {b.arg} ({b.format.name}) for {lowered.target}."


def summary(lowered: LoweredKernel) -> str:
    """The kernel's source and how it was lowered, as paragraphs of plain text."""
    return f"{_source(lowered.kernel)}\n\n{_plan(lowered)}"


def _source(kernel: Kernel) -> str:
    body = kernel.span.text
    if "{" not in body:  # a kernel that was not parsed from text
        args = "; ".join(f"{a.direction} {a.name}{_axes(a.axes)}" for a in kernel.args)
        body = f"kernel {kernel.name}: {args}"
    lines = textwrap.dedent(body).strip().splitlines()
    return "\n".join(f"    {line}".rstrip() for line in lines).replace("\\", "\\\\").replace('"""', "'''")


def _axes(axes: tuple[Axis, ...]) -> str:
    return f"[{', '.join(text(axis.extent) for axis in axes)}]"


def _plan(lowered: LoweredKernel) -> str:
    tile, cluster, mma = lowered.tile, lowered.cluster, lowered.mma
    makers = "a pair of CTAs" if mma.cta_group == 2 else "each CTA"
    clusters = f", clusters of {cluster.m} x {cluster.n} CTAs that share loads by multicast" if cluster.size > 1 else ""
    overlapping = " overlapping" if lowered.tmem.overlapped(tile.n) else ""
    accumulators = f"two{overlapping} accumulators" if lowered.tmem.acc_buffers == 2 else "one accumulator"
    plan = (
        f"Tiles of {tile.m} x {tile.n}, {tile.k} deep, made by {makers} with kind::{mma.kind}{clusters}. "
        f"{lowered.pipeline.stages} stages of operands in shared memory, {accumulators} in tensor "
        "memory; persistent: a cluster takes every n-th tile, its epilogue under the next tile's mainloop."
    )
    return textwrap.fill(plan, _WIDTH)
