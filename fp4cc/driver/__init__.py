"""The way through: a spec in, artifacts out. The command line and Python callers share it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fp4cc.driver.build import Built, BuiltKernel, build
from fp4cc.driver.request import Request, RequestError, only_kernel
from fp4cc.driver.spec import Spec, read_spec, spec_at
from fp4cc.plans import MOST_PLANS, plans_for

if TYPE_CHECKING:
    from fp4rt import Artifact

__all__ = [
    "Built",
    "BuiltKernel",
    "Request",
    "RequestError",
    "Spec",
    "artifact_of",
    "build",
    "compile",
    "only_kernel",
    "read_spec",
    "spec_at",
]


def compile(
    spec: str | os.PathLike[str],
    target: str = "sm_100a",
    dims: Mapping[str, int] | None = None,
    kernel: str | None = None,
    *,
    plans: int | None = None,
    many: bool = False,
    cache: bool = True,
) -> Artifact:
    """Compile one kernel of a spec.

    Args:
        spec: the path of a `.fp4` file, or its text.
        target: the GPU target.
        dims: sizes to fix, by name; they become constants of the kernel.
        kernel: which of the file's kernels; needed only where it has several.
        plans: how many plans a kernel with dynamic sizes gets at most, where no schedule block decides; 1: one for
            every size, which compiles faster. By default 6; with `many` 1, so that a list is one launch.
        many: compile each plan for lists of problems too, so that `kernel.many` runs a list at once.
        cache: False compiles anew and stores nothing.

    Returns:
        The artifact: `.save(folder)` writes it, `.load_kernel(device)` runs it.

    Raises:
        fp4cc.DiagnosticError: everything that is wrong with the spec, with places, reasons and help.
        fp4cc.RequestError: the file has several kernels and none was named, or not the one that was; `plans` is not
            from 1 to 6.
        OSError: the file cannot be read.
    """
    count = plans_for(plans, many)
    if not 1 <= count <= MOST_PLANS:
        raise RequestError(f"a kernel has 1 to {MOST_PLANS} plans, not {plans}")
    built = build(Request(read_spec(spec), target, dict(dims or {}), kernel, count, many=many), use_cache=cache)
    return artifact_of(only_kernel(built.kernels))


def artifact_of(kernel: BuiltKernel) -> Artifact:
    """A built kernel as the runtime's artifact, with the emitted Python as an extra file."""
    from fp4rt.artifact import Artifact
    from fp4rt.manifest import loads

    manifest = loads(kernel.files[f"{kernel.name}.json"].decode())
    files = {name: data for name, data in kernel.files.items() if name in manifest.files}
    artifact = Artifact(manifest, files, kernel.python)
    artifact.verify()
    return artifact
