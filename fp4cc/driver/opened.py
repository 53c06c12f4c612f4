"""Kernels with the rows left open that a request fixes: what a kernel for any number of them would do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.request import Request
from fp4cc.driver.stages import lower_kernels, typed_kernels
from fp4cc.explain.plans import open_rows

if TYPE_CHECKING:
    from fp4cc.ir.lowered import LoweredKernel


def opened_kernels(request: Request) -> dict[str, tuple[LoweredKernel, str]]:
    """By name, each kernel with the dim of its rows open, and that dim: of those where the spec leaves it open and
    the request gives it a size. A kernel that cannot be lowered for any size is left out."""
    found: dict[str, tuple[LoweredKernel, str]] = {}
    if not request.dims:
        return found
    for kernel in typed_kernels(replace(request, dims={}))[0]:
        rows = next((name for name in open_rows(kernel) if name in request.dims), None)
        if rows is None:
            continue
        own = {d.name for d in kernel.dims}
        dims = {name: size for name, size in request.dims.items() if name != rows and name in own}
        try:
            (lowered,) = lower_kernels(replace(request, dims=dims, kernel=kernel.name))[0]
        except DiagnosticError:  # it is for some sizes alone
            continue
        found[kernel.name] = (lowered, rows)
    return found
