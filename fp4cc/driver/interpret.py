"""Kernels as the reference device runs them: the typed kernel alone, for no target, compiled or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fp4cc.driver.request import Request, only_kernel
from fp4cc.driver.stages import check_target, typed_kernels
from fp4cc.ir.serialize import to_typed

if TYPE_CHECKING:
    from fp4rt import Artifact


def interpreted(request: Request) -> Artifact:
    """An artifact without launches of the one kernel that was asked for.

    It runs on the reference only, and so it exists for kernels that no target can be compiled for yet. Raises
    DiagnosticError for a wrong spec and RequestError where there is not one kernel.
    """
    check_target(request)
    from fp4rt.artifact import Artifact
    from fp4rt.manifest import Manifest, Plan

    kernel = to_typed(only_kernel(typed_kernels(request)[0]))
    return Artifact(Manifest(kernel.name, request.target, kernel, Plan(launches=())))
