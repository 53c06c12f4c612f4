"""Sizes worth trying: whole tiles, residues in every dimension, more tiles than clusters, nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fp4cc.driver.sizes import call_sizes, open_dims
from fp4cc.ir.roles import batch_dims
from fp4rt.sizes import shifted

if TYPE_CHECKING:
    from fp4rt.manifest import Manifest

#: Tried for each dimension in turn, in this order; those that break a constraint are passed over.
_RESIDUES = (200, 129, 72, 96, 320, 1, 160, 384, 17, 448)
_RESIDUES_OF_BATCHES = (3, 1)
_PER_DIM = 2


def interesting_shapes(manifest: Manifest, given: Mapping[str, int]) -> list[dict[str, int]]:
    """Sets of dims for a call that keep to the constraints; `given` ones are the same in all of them."""
    from fp4rt.errors import RuntimeFault
    from fp4rt.resolve import resolve
    from fp4rt.signature import complete_dims

    base = call_sizes(manifest, given)
    free, known = open_dims(manifest, given)
    batches = batch_dims(manifest.kernel)

    def legal(sizes: Mapping[str, int]) -> dict[str, int] | None:
        try:
            dims = complete_dims(manifest.kernel, {**known, **sizes})
            resolve(manifest, dims)
        except RuntimeFault:
            return None
        if any(dims[rows] and not dims[groups] for rows, groups in _groups(manifest)):
            return None  # rows that are in no group
        return {d.name: dims[d.name] for d in manifest.kernel.dims}

    start = {name: base[name] for name in free}
    found = [base]
    odd: dict[str, list[int]] = {name: [] for name in free}
    for name in free:
        for size in _RESIDUES_OF_BATCHES if name in batches else _RESIDUES:
            if len(odd[name]) < _PER_DIM and size != base[name] and (dims := legal({**start, name: size})):
                odd[name].append(size)
                found.append(dims)
    # All dimensions off at once, and each of them empty.
    together = {name: (sizes or [base[name]])[-1] for name, sizes in odd.items()}
    candidates = [together, *({**start, name: 0} for name in free)]
    for sizes in candidates:
        dims = legal(sizes)
        if dims is not None and dims not in found:
            found.append(dims)
    return found


def _groups(manifest: Manifest) -> list[tuple[str, str]]:
    """The dims of ragged rows, each with that of the number of their groups."""
    kernel = manifest.kernel
    ragged = [(axis.extent, axis.by) for arg in kernel.args for axis in arg.axes if axis.by is not None]
    pairs = ((rows, shifted(kernel.arg(by).axes[0].extent)) for rows, by in ragged)
    return [(rows, found[0]) for rows, found in pairs if isinstance(rows, str) and found is not None]
