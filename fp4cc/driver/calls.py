"""What some calls need of a spec: only the plans that they take are compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fp4cc.driver.build import Built, Step, build
from fp4cc.driver.request import NO_KERNEL, PREPARED_PLANS, Request, RequestError, only_kernel
from fp4cc.driver.stages import lower_kernels, manifest_text, plan_of_call
from fp4rt.manifest import Manifest, loads

if TYPE_CHECKING:
    from fp4cc.ir.lowered import LoweredKernel


def planned(request: Request) -> list[tuple[LoweredKernel, Manifest]]:
    """The kernels that were asked for with all their plans, and their manifests, nothing compiled.

    Raises what `build` does before it compiles.
    """
    lowered, _ = lower_kernels(request)
    if not lowered:
        raise RequestError(NO_KERNEL)
    return [(kernel, loads(manifest_text(kernel, {}))) for kernel in lowered]


def planned_kernel(request: Request) -> tuple[LoweredKernel, Manifest]:
    """The one kernel that was asked for. RequestError where there are several."""
    found = planned(request)
    only_kernel([kernel for kernel, _ in found])
    return found[0]


def build_for(
    request: Request,
    calls: Mapping[str, Iterable[Mapping[str, int]]],
    kernels: Iterable[LoweredKernel],
    *,
    prepared: bool = False,
    use_cache: bool = True,
    step: Step,
) -> Built:
    """Build what certain calls run: `calls` has the sizes of those of each kernel, `kernels` are what was lowered.

    `prepared`: also what calls on prepared arguments do.
    """
    also = (PREPARED_PLANS,) if prepared else ()
    only = {
        kernel.name: (*also, *sorted({plan_of_call(kernel, sizes) for sizes in calls.get(kernel.name, ())}))
        for kernel in kernels
        if kernel.variants or kernel.prepared
    }
    return build(replace(request, only=only or None), use_cache=use_cache, step=step)
