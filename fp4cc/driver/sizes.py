"""Which of the given sizes are constants of the kernel, and which belong to a call; and sizes for a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fp4cc.driver.request import Request

if TYPE_CHECKING:
    from fp4rt.manifest import Manifest

#: Sizes tried for a dimension that nobody gave, the usual first. Small: the emulator runs them in a second.
_TRIED = (256, 512, 128, 64, 1024, 384, 32, 1)
#: The same for a batch dimension: each batch costs as much as a whole product.
_TRIED_BATCHES = (2, 3, 4, 1, 8, 16)


def split_sizes(request: Request, given: Mapping[str, int]) -> tuple[Request, dict[str, int]]:
    """Sizes of static dims go into the request, where they become constants; those of dynamic dims are for the call.

    So `fp4cc run --set M=300` runs the kernel that was compiled for any M. Raises DiagnosticError for a spec that is
    wrong and RequestError for a dim that no kernel has.
    """
    if not given:
        return request, {}
    from fp4cc.driver.stages import typed_kernels

    kernels, _ = typed_kernels(replace(request, dims={}))
    dynamic = {d.name for k in kernels for d in k.dims if d.value is None and d.expr is None}
    fixed = {name: size for name, size in given.items() if name not in dynamic}
    return replace(request, dims=fixed), {name: size for name, size in given.items() if name in dynamic}


def call_sizes(manifest: Manifest, given: Mapping[str, int]) -> dict[str, int]:
    """Sizes of every dim for a call, in the kernel's order: given ones, and small ones that meet the constraints.

    Raises the fp4rt.RuntimeFault of the usual sizes where none of those tried will do: it names what does not hold.
    """
    from fp4rt.errors import RuntimeFault
    from fp4rt.resolve import resolve
    from fp4rt.signature import complete_dims

    free = [d.name for d in manifest.kernel.dims if d.value is None and d.expr is None and d.name not in given]
    known = {**{d.name: d.value for d in manifest.kernel.dims if d.value is not None}, **given}
    fault: RuntimeFault | None = None
    for sizes in _assignments({name: _TRIED_BATCHES if is_batch(manifest, name) else _TRIED for name in free}):
        try:
            dims = complete_dims(manifest.kernel, {**known, **sizes})
            resolve(manifest, dims)
        except RuntimeFault as found:
            fault = fault or found
        else:
            return {d.name: dims[d.name] for d in manifest.kernel.dims}
    assert fault is not None, "there is at least one assignment"
    raise fault


def is_batch(manifest: Manifest, name: str) -> bool:
    """Whether a dim is only ever an axis before the last two."""
    places = [
        len(arg.axes) - i for arg in manifest.kernel.args for i, axis in enumerate(arg.axes) if axis.extent == name
    ]
    return bool(places) and min(places) > 2


def _assignments(tried: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, int]]:
    """All usual at first, then the next of each together, then one dimension at a time different from the rest."""
    if not tried:
        yield {}
        return
    rounds = max(map(len, tried.values()))
    for i in range(rounds):
        yield {name: sizes[min(i, len(sizes) - 1)] for name, sizes in tried.items()}
    for name, sizes in tried.items():
        for size in sizes:
            for i in range(rounds):
                yield {**{n: s[min(i, len(s) - 1)] for n, s in tried.items()}, name: size}
