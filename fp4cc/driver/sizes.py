"""Sizes of a call: given ones (`--at`), and small ones for the dims that nobody gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fp4cc.driver.request import Request, RequestError
from fp4cc.ir.roles import batch_dims
from fp4cc.ir.size_hints import suggested

if TYPE_CHECKING:
    from fp4cc.ir.kernel import Dim
    from fp4rt.manifest import Manifest

#: Sizes tried for a dimension that nobody gave, the usual first. Small: the emulator runs them in a second.
_TRIED = (256, 512, 128, 64, 1024, 384, 32, 1)
#: The same for a batch dimension: each batch costs as much as a whole product.
_TRIED_BATCHES = (2, 3, 4, 1, 8, 16)


def at_sizes(request: Request, given: Mapping[str, int]) -> dict[str, int]:
    """Sizes of one call (`--at`), judged: they are of dims that the kernels asked for leave open.

    They never touch the kernel: what is compiled depends on the request alone, so `--at M=300` runs the kernel for any
    M, where `--set M=300` would run one for that M. Raises DiagnosticError for a spec that is wrong and RequestError
    for a dim that is not dynamic.
    """
    if not given:
        return {}
    from fp4cc.diagnostics import did_you_mean
    from fp4cc.driver.stages import typed_kernels

    kernels, _ = typed_kernels(request)
    dims: dict[str, list[Dim]] = {}
    for dim in (d for k in kernels for d in k.dims):
        dims.setdefault(dim.name, []).append(dim)
    for name in given:
        if name in request.dims:
            raise RequestError(f"{name} is given twice: --set fixes it in the kernel, --at is for sizes left open")
        if name not in dims:
            known = did_you_mean(name, dims) or f"dimensions: {', '.join(sorted(dims)) or 'none'}"
            raise RequestError(f"no kernel has a dimension {name}; {known}")
        if any(d.expr is not None for d in dims[name]):
            raise RequestError(f"{name} is derived from other dimensions; give those")
        values = [d.value for d in dims[name] if d.value is not None]
        if len(values) == len(dims[name]):
            raise RequestError(f"{name} is fixed in the spec ({name} = {values[0]}); --set {name}=... changes it")
    return dict(given)


def call_sizes(manifest: Manifest, given: Mapping[str, int]) -> dict[str, int]:
    """Sizes of every dim for a call, in the kernel's order: given ones, and small ones that meet the constraints.

    Raises the fp4rt.RuntimeFault of the usual sizes where none of those tried will do: it names what does not hold.
    """
    from fp4rt.errors import RuntimeFault
    from fp4rt.resolve import resolve
    from fp4rt.signature import complete_dims

    free, known = open_dims(manifest, given)
    batches = batch_dims(manifest.kernel)
    plans = (c.expr for c in (*manifest.constraints, *manifest.plan_constraints))
    exprs = (*plans, *(d.expr for d in manifest.kernel.dims if d.expr is not None))
    tried = {name: suggested(name, exprs, _TRIED_BATCHES if name in batches else _TRIED) for name in free}
    fault: RuntimeFault | None = None
    for sizes in _assignments(tried):
        try:
            dims = complete_dims(manifest.kernel, {**known, **sizes})
            resolve(manifest, dims)
        except RuntimeFault as found:
            fault = fault or found
        else:
            return {d.name: dims[d.name] for d in manifest.kernel.dims}
    assert fault is not None, "there is at least one assignment"
    raise fault


def open_dims(manifest: Manifest, given: Mapping[str, int]) -> tuple[list[str], dict[str, int]]:
    """The dynamic dims that `given` leaves open, and what is known of the others; others are dropped."""
    dims = manifest.kernel.dims
    open_ = [d.name for d in dims if d.value is None and d.expr is None and d.name not in given]
    own = {d.name: given[d.name] for d in dims if d.value is None and d.expr is None and d.name in given}
    return open_, {**{d.name: d.value for d in dims if d.value is not None}, **own}


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
