"""What a call multiplies and what its arguments take: by the typed kernel and the sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from fp4rt.resolve import buffer_sizes
from fp4rt.typed import Arg, TypedKernel, shape_of

Kind = Literal["weights", "activations", "output", "other"]


@dataclass(frozen=True, slots=True)
class Product:
    """`batch` products of [m, k] and [k, n]."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one argument: of its numbers and of its scales, their padding included.

    `bf16` and `fp8` are what as many numbers of these types take without scales; whole numbers stay what they are. An
    argument is `weights` where it is the right side of a product, `activations` where it is the left one, `output`
    where the kernel writes it.
    """

    name: str
    kind: Kind
    numbers: int
    scales: int
    bf16: int
    fp8: int

    @property
    def total(self) -> int:
        """All bytes of the argument."""
        return self.numbers + self.scales


def products(kernel: TypedKernel, dims: Mapping[str, int]) -> list[Product]:
    """The products of a call with a full set of dims. Masked rows count whole: how many there are, the device knows.

    Ragged rows that are contracted are divided among the results: together they are as much work as one product.
    """
    extents = dict(dims)
    for value in kernel.values:
        if value.op == "arg":
            extents.update(zip(value.axes, shape_of(kernel.arg(str(value.attrs["name"])), dims), strict=True))
    found: list[Product] = []
    for value in kernel.values:
        if value.op == "matmul":
            *batch, m, n = (extents[axis] for axis in value.axes)
            k = str(value.attrs["k"])
            ragged = any(axis.name == k and axis.by is not None for arg in kernel.args for axis in arg.axes)
            found.append(Product(1 if ragged else prod(batch), m, n, extents[k]))
    return found


def memory(kernel: TypedKernel, dims: Mapping[str, int]) -> list[Memory]:
    """The bytes of each tensor of a call with a full set of dims, in the order of the arguments."""
    kinds = _kinds(kernel)
    found: list[Memory] = []
    for arg in kernel.args:
        if arg.axes:
            sizes = dict(buffer_sizes(kernel, arg, dims))
            scales = sizes.get(f"{arg.name}.scales", 0) + sizes.get(f"{arg.name}.tensor_scale", 0)
            count, numbers = prod(shape_of(arg, dims)), sum(sizes.values()) - scales
            bf16, fp8 = (numbers, numbers) if arg.dtype in _WHOLE else (2 * count, count)
            found.append(Memory(arg.name, kinds.get(arg.name, "other"), numbers, scales, bf16, fp8))
    return found


def _kinds(kernel: TypedKernel) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for value in kernel.values:
        if value.op == "matmul":
            for index, kind in zip(value.operands, _SIDES, strict=True):
                arg = argument_of(kernel, index)
                if arg is not None:
                    kinds.setdefault(arg.name, kind)
    kinds.update({arg.name: "output" for arg in kernel.outputs})
    return kinds


_WHOLE = ("i32", "u32", "u64")
_SIDES: tuple[Kind, Kind] = ("activations", "weights")


def argument_of(kernel: TypedKernel, index: int) -> Arg | None:
    """The argument that a value is, transposed, in another type or some rows of it; None if it is computed."""
    value = kernel.values[index]
    while value.op in ("transpose", "cast", "gather"):
        value = kernel.values[value.operands[0]]
    return kernel.arg(str(value.attrs["name"])) if value.op == "arg" else None
