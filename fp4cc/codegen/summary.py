"""The emitted file's header: the spec it comes from and the plan in a few lines."""

from __future__ import annotations

import textwrap

from fp4cc.ir.kernel import Axis, Kernel
from fp4rt.sizes import text

_WIDTH = 110


def summary(kernel: Kernel, plan: str) -> str:
    """The kernel's source and how it was lowered (`plan`), as paragraphs of plain text."""
    return f"{_source(kernel)}\n\n{textwrap.fill(plan, _WIDTH)}"


def _source(kernel: Kernel) -> str:
    body = kernel.span.text
    if "{" not in body:  # a kernel that was not parsed from text
        args = "; ".join(f"{a.direction} {a.name}{_axes(a.axes)}" for a in kernel.args)
        body = f"kernel {kernel.name}: {args}"
    lines = textwrap.dedent(body).strip().splitlines()
    return "\n".join(f"    {line}".rstrip() for line in lines).replace("\\", "\\\\").replace('"""', "'''")


def _axes(axes: tuple[Axis, ...]) -> str:
    return f"[{', '.join(text(axis.extent) for axis in axes)}]"
