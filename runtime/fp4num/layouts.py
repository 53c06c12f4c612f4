"""Scale layouts: where the scale of a block lies in the scale buffer.

A layout tiles the grid of stored scale blocks (batch, row, k) with atoms. Inside an atom a CuTe tree gives the offset;
the atoms themselves lie one after another in `order`, nearest first. Coordinates count stored scale blocks: `row` those
along the second-last axis of the tensor, `k` those along the last. A grid that is no multiple of the atom is padded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num import cute
from fp4num.cute import Tree
from fp4num.errors import DataError, LayoutError
from fp4num.proof import Proof, prove

COORDINATES = ("batch", "row", "k")


@dataclass(frozen=True, slots=True)
class ScaleLayout:
    """`coords` names the atom's coordinates and their extents; mode i of the atom belongs to coordinate i.

    A coordinate that is not named has extent 1. `order` says which neighbor atom comes next in memory, nearest first.
    `pad` is every byte of the elements that no block owns, so of an f32 scale all four. Raises `LayoutError` for a
    form that cannot be read as a layout; `prove` says whether a well-formed one is a bijection.
    """

    name: str
    coords: tuple[tuple[str, int], ...]
    atom_shape: Tree
    atom_stride: Tree
    order: tuple[str, ...] = ("k", "row", "batch")
    pad: int = 0

    def __post_init__(self) -> None:
        names = [name for name, _ in self.coords]
        if not names or len(set(names)) != len(names) or not set(names) <= set(COORDINATES):
            raise LayoutError(f"layout {self.name}: coords are distinct names out of batch, row and k, not {names}")
        for name, extent in self.coords:
            if extent < 1:
                raise LayoutError(f"layout {self.name}: the extent of {name} is at least 1, not {extent}")
        if sorted(self.order) != sorted(COORDINATES):
            raise LayoutError(f"layout {self.name}: order names batch, row and k once each, not {list(self.order)}")
        if not 0 <= self.pad <= 255:
            raise LayoutError(f"layout {self.name}: pad is a byte, 0 to 255, not {self.pad}")
        if len(self.coords) == 1 and not (isinstance(self.atom_shape, tuple) and len(self.atom_shape) == 1):
            # `coords k : 4; atom 4 : 1` may leave the parentheses of its one mode out.
            object.__setattr__(self, "atom_shape", (self.atom_shape,))
            object.__setattr__(self, "atom_stride", (self.atom_stride,))
        shape, stride = self.atom_shape, self.atom_stride
        if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(self.coords):
            raise LayoutError(
                f"layout {self.name}: the atom {cute.text(shape)}:{cute.text(stride)} needs one mode for each of its "
                f"{len(self.coords)} coordinates ({', '.join(names)})"
            )
        for (name, extent), mode in zip(self.coords, shape, strict=True):
            if cute.size(mode) != extent:
                raise LayoutError(
                    f"layout {self.name}: the mode {cute.text(mode)} of {name} has {cute.size(mode)} coordinates, "
                    f"but the extent of {name} is {extent}"
                )
        list(cute.leaves(shape, stride))

    @property
    def atom_size(self) -> int:
        """Elements of one atom."""
        return cute.size(self.atom_shape)

    def extent(self, coordinate: str) -> int:
        """The atom's extent along `batch`, `row` or `k`."""
        return dict(self.coords).get(coordinate, 1)

    def modes(self, coordinate: str) -> tuple[tuple[int, int], ...]:
        """(extent, stride) of the atom's leaves along one coordinate, fastest first."""
        assert isinstance(self.atom_shape, tuple) and isinstance(self.atom_stride, tuple)
        for (name, _), shape, stride in zip(self.coords, self.atom_shape, self.atom_stride, strict=True):
            if name == coordinate:
                return tuple(cute.leaves(shape, stride))
        return ((1, 0),)

    def nearer(self, coordinate: str) -> tuple[str, ...]:
        """The coordinates along which neighbor atoms lie nearer: how far apart they lie along this one is a product
        of the numbers of atoms along those."""
        return self.order[: self.order.index(coordinate)]

    def atoms(self, batches: int, rows: int, kblocks: int) -> dict[str, int]:
        """Atoms along each coordinate for a grid of that many stored scale blocks."""
        grid = {"batch": batches, "row": rows, "k": kblocks}
        return {name: -(-grid[name] // self.extent(name)) for name in COORDINATES}

    def size(self, batches: int, rows: int, kblocks: int) -> int:
        """Scale elements of the buffer, padding included."""
        atoms = self.atoms(batches, rows, kblocks)
        return atoms["batch"] * atoms["row"] * atoms["k"] * self.atom_size

    def padding(self, batches: int, rows: int, kblocks: int) -> int:
        """Elements of the buffer that no block owns."""
        return self.size(batches, rows, kblocks) - batches * rows * kblocks

    def offset(self, batch: ArrayLike, row: ArrayLike, k: ArrayLike, rows: int, kblocks: int) -> NDArray[np.int64]:
        """Element offset of the scale of block (batch, row, k); the arguments broadcast.

        `rows` and `kblocks` are the grid's extents. The number of batches matters only to a layout whose order does
        not end in batch: use `offsets` for those.
        """
        if self.order[-1] != "batch":
            raise LayoutError(f"layout {self.name}: its order {self.order} needs the number of batches; use offsets()")
        batches = int(np.max(batch, initial=0)) + 1
        pieces = self._strides(batches, rows, kblocks)
        values = {"batch": batch, "row": row, "k": k}
        total: Any = np.int64(0)
        for name in COORDINATES:
            total = total + self._along(name, np.asarray(values[name], np.int64), pieces[name])
        return np.asarray(total, np.int64)

    def offsets(self, batches: int, rows: int, kblocks: int) -> NDArray[np.int64]:
        """Offsets of every block: int64 [batches, rows, kblocks]."""
        pieces = self._strides(batches, rows, kblocks)
        b, r, c = (
            self._along(name, np.arange(n, dtype=np.int64), pieces[name])
            for name, n in zip(COORDINATES, (batches, rows, kblocks), strict=True)
        )
        return b[:, None, None] + r[None, :, None] + c[None, None, :]

    def to_buffer(self, scales: NDArray[Any]) -> NDArray[Any]:
        """The buffer (1-D, padding filled) of scales [batch, row, k]."""
        if scales.ndim != 3:
            raise DataError(f"scales are [batch, row, k], not of shape {scales.shape}")
        out = np.full(self.size(*scales.shape) * scales.itemsize, self.pad, np.uint8).view(scales.dtype)
        out[self.offsets(*scales.shape)] = scales
        return out

    def from_buffer(self, buffer: NDArray[Any], batches: int, rows: int, kblocks: int) -> NDArray[Any]:
        """Scales [batch, row, k] of a buffer: the inverse of `to_buffer`, the padding dropped."""
        size = self.size(batches, rows, kblocks)
        if buffer.shape != (size,):
            raise DataError(
                f"layout {self.name}: scales for {batches} x {rows} x {kblocks} blocks fill a 1-D buffer of {size}, "
                f"not one of shape {buffer.shape}"
            )
        return buffer[self.offsets(batches, rows, kblocks)]

    def prove(self) -> Proof:
        """A proof that the layout is a bijection for every grid; `LayoutError` with the coordinates that fail."""
        return prove(self.name, self.coords, self.atom_shape, self.atom_stride)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "name": self.name,
            "coords": [[name, extent] for name, extent in self.coords],
            "atom_shape": _thaw(self.atom_shape),
            "atom_stride": _thaw(self.atom_stride),
            "order": list(self.order),
            "pad": self.pad,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any] | str) -> ScaleLayout:
        """A layout of `to_json`'s object or its text; `LayoutError` for a missing, unknown or malformed field."""
        fields: Mapping[str, Any] = json.loads(data) if isinstance(data, str) else data
        known = {"name", "coords", "atom_shape", "atom_stride", "order", "pad"}
        if set(fields) != known:
            raise LayoutError(f"a layout has the fields {sorted(known)}, not {sorted(fields)}")
        try:
            coords = tuple((str(name), int(extent)) for name, extent in fields["coords"])
            order = tuple(str(name) for name in fields["order"])
            pad = int(fields["pad"])
        except (TypeError, ValueError) as error:
            raise LayoutError(f"layout {fields['name']!r} is malformed: {error}") from error
        shape, stride = cute.freeze(fields["atom_shape"]), cute.freeze(fields["atom_stride"])
        return ScaleLayout(str(fields["name"]), coords, shape, stride, order, pad)

    def __str__(self) -> str:
        coords = ", ".join(f"{name} : {extent}" for name, extent in self.coords)
        return f"{self.name}: {coords}; atom {cute.text(self.atom_shape)}:{cute.text(self.atom_stride)}"

    def _strides(self, batches: int, rows: int, kblocks: int) -> dict[str, int]:
        """Elements between neighboring atoms along each coordinate."""
        atoms = self.atoms(batches, rows, kblocks)
        strides: dict[str, int] = {}
        step = self.atom_size
        for name in self.order:
            strides[name] = step
            step *= atoms[name]
        return strides

    def _along(self, coordinate: str, index: NDArray[np.int64], atom_stride: int) -> NDArray[np.int64]:
        """The part of the offset that one coordinate decides: offsets are sums of such parts."""
        extent = self.extent(coordinate)
        total = index // extent * atom_stride
        inside = index % extent
        for size, stride in self.modes(coordinate):
            total = total + inside % size * stride
            inside = inside // size
        return total


def _thaw(tree: Tree) -> Any:
    return tree if isinstance(tree, int) else [_thaw(part) for part in tree]


#: cuBLAS, CUTLASS, Transformer Engine, FlashInfer, torchao and cuDNN: what the tensor core's scale loads expect.
BLOCKED_128X4 = ScaleLayout("blocked_128x4", (("row", 128), ("k", 4)), ((32, 4), 4), ((16, 4), 1))
#: TensorRT-LLM's layout for a small number of rows.
BLOCKED_8X4 = ScaleLayout("blocked_8x4", (("row", 8), ("k", 4)), (8, 4), (4, 1))
#: Row-major, no padding: what checkpoints hold.
LINEAR = ScaleLayout("linear", (("row", 1), ("k", 1)), (1, 1), (0, 0))

#: The standard layouts by name.
LAYOUTS: Mapping[str, ScaleLayout] = MappingProxyType({v.name: v for v in (BLOCKED_128X4, BLOCKED_8X4, LINEAR)})
