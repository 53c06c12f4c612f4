"""Block formats: element, packing, scale type, block shape, scale layout, tensor scale and quantizer in one type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from fp4num.elements import ElementFormat, element
from fp4num.errors import DataError, FormatError
from fp4num.layouts import BLOCKED_128X4, LINEAR, ScaleLayout

Extent: TypeAlias = "int | Literal['all']"
Block: TypeAlias = tuple[Extent, Extent]
Sense = Literal["multiplies", "divides"]

#: What may scale a block. `e4m3` scales are stored with sign 0.
SCALES = ("e4m3", "e8m0", "f32")
#: What may be the element of a block format.
BLOCK_ELEMENTS = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")


class Grid(NamedTuple):
    """Counts of a tensor's blocks: batches, and rows and columns of blocks."""

    batches: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """A quantized tensor type.

    value = element * scale [* tensor_scale, if it `multiplies`; / tensor_scale, if it `divides`].

    `block` (rows, columns) is what shares a scale; columns lie on the tensor's last axis; "all" is the whole axis.
    `stored` is what one stored scale covers: smaller than `block` where a scale is repeated (16 x 16 blocks stored
    1 x 16). `layout` places the stored scales; `quantizer` names the exact rule (docs/numerics.md). With `each_batch`
    there is a tensor scale for each index of all axes but the last two, as of stacked experts. Raises `FormatError`.
    """

    name: str
    element: str
    pack: str | None
    scale: str | None
    block: Block
    stored: Block
    layout: ScaleLayout
    tensor_scale: Sense | None
    quantizer: str
    each_batch: bool = False

    def __post_init__(self) -> None:
        if self.element not in BLOCK_ELEMENTS:
            names = ", ".join(BLOCK_ELEMENTS)
            raise FormatError(f"format {self.name}: the element is one of {names}, not {self.element}")
        if self.scale is not None and self.scale not in SCALES:
            raise FormatError(f"format {self.name}: the scale is one of {', '.join(SCALES)}, not {self.scale}")
        wanted = "low_first" if self.bits < 8 else None
        if self.pack != wanted:
            raise FormatError(f"format {self.name}: {self.element} has pack {wanted}, not {self.pack}")
        if self.tensor_scale not in (None, "multiplies", "divides"):
            raise FormatError(f"format {self.name}: a tensor scale multiplies or divides, not {self.tensor_scale!r}")
        if not isinstance(self.each_batch, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FormatError(f"format {self.name}: each_batch is true or false, not {self.each_batch!r}")
        if self.each_batch and self.tensor_scale is None:
            raise FormatError(f"format {self.name}: it has no tensor scale, so none for each batch")
        for block, stored, axis in zip(self.block, self.stored, ("rows", "columns"), strict=True):
            for extent in (block, stored):
                if not _is_extent(extent):
                    raise FormatError(
                        f"format {self.name}: a block's {axis} are a positive number or all, not {extent!r}"
                    )
            if block != stored and (stored == "all" or (block != "all" and block % stored)):
                raise FormatError(f"format {self.name}: stored {axis} {stored} do not divide the block's {block}")

    @property
    def bits(self) -> int:
        """Bits of one element."""
        return element(self.element).bits

    @property
    def element_format(self) -> ElementFormat:
        """The element's codec."""
        return element(self.element)

    def check_shape(self, shape: Sequence[int]) -> None:
        """`DataError` unless a tensor of this shape has whole blocks along its last axis and whole bytes a row."""
        if not shape or any(n < 0 for n in shape):
            raise DataError(f"{self.name} quantizes tensors of one axis or more, not the shape {tuple(shape)}")
        if shape[-1] % self.row_unit:
            raise DataError(f"{self.name}: the last axis of {tuple(shape)} is no multiple of {self.row_unit}")

    @property
    def row_unit(self) -> int:
        """What the elements of a row are a multiple of: those of a block, and those of whole bytes."""
        columns, packed = self.block[1], {4: 2, 6: 4, 8: 1}[self.bits]
        return packed if columns == "all" else math.lcm(columns, packed)

    def codes_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the packed codes, in bytes, of a tensor of shape `shape`."""
        self.check_shape(shape)
        return (*shape[:-1], shape[-1] * self.bits // 8)

    def block_grid(self, shape: Sequence[int]) -> Grid:
        """Blocks of a tensor: one scale is computed for each."""
        return self._grid(shape, self.block)

    def scale_grid(self, shape: Sequence[int]) -> Grid:
        """Stored scales of a tensor: the grid that the layout places."""
        return self._grid(shape, self.stored)

    def scales_size(self, shape: Sequence[int]) -> int:
        """Elements of the scale buffer, padding included; 0 without scales."""
        return 0 if self.scale is None else self.layout.size(*self.scale_grid(shape))

    def tensor_scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the tensor scale of a tensor of shape `shape`: (), or its batches."""
        return tuple(shape[:-2]) if self.each_batch else ()

    def _grid(self, shape: Sequence[int], block: Block) -> Grid:
        self.check_shape(shape)
        batches = 1
        for n in shape[:-2]:
            batches *= n
        rows = shape[-2] if len(shape) > 1 else 1
        return Grid(batches, _count(rows, block[0]), _count(shape[-1], block[1]))

    def mismatches(self, other: BlockFormat) -> tuple[str, ...]:
        """Where bytes of this format mean something else in `other`. Names and quantizers do not matter."""
        mine, theirs = (" x ".join(map(str, f.block)) for f in (self, other))
        stored = tuple(" x ".join(map(str, f.stored)) for f in (self, other))
        owners = tuple("each batch" if f.each_batch else "the whole tensor" for f in (self, other))
        pairs = (
            (self.element, other.element, "element {} is not {}"),
            (self.scale, other.scale, "scale {} is not {}"),
            (mine, theirs, "scale per {}, not {}"),
            (*stored, "scale stored {}, not {}"),
            (replace(self.layout, name=""), replace(other.layout, name=""), None),
            (self.tensor_scale, other.tensor_scale, "tensor scale {}, not {}"),
            *([(*owners, "tensor scale of {}, not of {}")] if owners[0] != owners[1] else []),
        )
        layouts = f"layout {self.layout.name} is not {other.layout.name}"
        return tuple(layouts if text is None else text.format(a, b) for a, b, text in pairs if a != b)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads; every property, but for `each_batch` where it is false."""
        return {
            "name": self.name,
            "element": self.element,
            "pack": self.pack,
            "scale": self.scale,
            "block": list(self.block),
            "stored": list(self.stored),
            "layout": self.layout.to_json(),
            "tensor_scale": self.tensor_scale,
            "quantizer": self.quantizer,
            **({"each_batch": True} if self.each_batch else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any] | str) -> BlockFormat:
        """A format of `to_json`'s object or its text; `FormatError` or `LayoutError` for what is malformed."""
        fields: Mapping[str, Any] = json.loads(data) if isinstance(data, str) else data
        known = set(BlockFormat.__slots__)
        if {*fields, "each_batch"} != known:
            raise FormatError(f"a format has the fields {sorted(known)}, not {sorted(fields)}")
        block, stored = (tuple(fields[k]) for k in ("block", "stored"))
        if len(block) != 2 or len(stored) != 2:
            raise FormatError(f"format {fields['name']}: a block has rows and columns, not {block} stored {stored}")
        layout = ScaleLayout.from_json(fields["layout"])
        values: dict[str, Any] = {**fields, "block": block, "stored": stored, "layout": layout}
        return BlockFormat(**values)


def _is_extent(extent: object) -> bool:
    return extent == "all" or (isinstance(extent, int) and extent >= 1)


def _count(n: int, extent: Extent) -> int:
    return 1 if extent == "all" else -(-n // extent)


def _format(
    name: str,
    element: str,
    scale: str,
    block: Block,
    quantizer: str,
    layout: ScaleLayout = BLOCKED_128X4,
    tensor_scale: Sense | None = None,
) -> BlockFormat:
    pack = "low_first" if element in ("e2m1", "e3m2", "e2m3") else None
    return BlockFormat(name, element, pack, scale, block, block, layout, tensor_scale, quantizer)


NVFP4 = _format("nvfp4", "e2m1", "e4m3", (1, 16), "nvfp4_amax", tensor_scale="multiplies")

_STANDARD = (
    NVFP4,
    replace(NVFP4, name="nvfp4_experts", each_batch=True),
    replace(NVFP4, name="nvfp4_2d", block=(16, 16), stored=(1, 16)),
    _format("mxfp4", "e2m1", "e8m0", (1, 32), "mx_floor"),
    _format("mxfp6_e3m2", "e3m2", "e8m0", (1, 32), "mx_floor"),
    _format("mxfp6_e2m3", "e2m3", "e8m0", (1, 32), "mx_floor"),
    _format("mxfp8_e4m3", "e4m3", "e8m0", (1, 32), "mx_floor"),
    _format("mxfp8_e5m2", "e5m2", "e8m0", (1, 32), "mx_floor"),
    _format("fp8_token", "e4m3", "f32", (1, "all"), "absmax", LINEAR),
    _format("ds_act", "e4m3", "f32", (1, 128), "absmax", LINEAR),
    _format("ds_weight", "e4m3", "f32", (128, 128), "absmax", LINEAR),
)

#: The formats of the language's prelude by name. `mxfp8` and `mxfp6` are short for the e4m3 and e3m2 ones.
FORMATS: Mapping[str, BlockFormat] = MappingProxyType(
    {
        **{f.name: f for f in _STANDARD},
        "mxfp8": next(f for f in _STANDARD if f.name == "mxfp8_e4m3"),
        "mxfp6": next(f for f in _STANDARD if f.name == "mxfp6_e3m2"),
    }
)


def block_format(fmt: BlockFormat | str) -> BlockFormat:
    """The format of that name, or the format itself; `FormatError` lists the names there are."""
    if isinstance(fmt, BlockFormat):
        return fmt
    found = FORMATS.get(fmt) if isinstance(fmt, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise FormatError(f"no block format is called {fmt!r}; there are {', '.join(FORMATS)}")
    return found
