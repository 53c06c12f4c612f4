"""A kind of calls that went through the checks, ready to be queued for other buffers.

What decides whether a call is of this kind is looked at first: names, `Quantized`s, and the tensors, all at once by
torch's own guard (class, dispatch keys, dtype, device, sizes, strides). What decides for the buffers alone comes next:
alignment and overlaps. `Ready.run` returns None where anything differs, having done nothing.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import count
from operator import attrgetter, itemgetter, or_
from typing import Any

from fp4num import BlockFormat, Quantized
from fp4rt.checks import Slot
from fp4rt.cuda.blocks import Block, Template
from fp4rt.cuda.calls import CallPacker
from fp4rt.plan import WORKSPACE
from fp4rt.prepared import kind_of
from fp4rt.resolve import Resolved
from fp4rt.signature import Call

#: Beyond this, whether a number is one of f32 is left to the checks.
LARGEST = 3.4e38
#: Blocks that a kernel keeps, of some hundred bytes each, and buffers that it remembers to have seen.
_MAX_BLOCKS, _MAX_SEEN = 1024, 4096
#: What a look at unusual arguments may raise; the checks find the words for it.
UNUSUAL = (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, OverflowError)


def tensor_guard(tensors: Sequence[Any]) -> Callable[..., bool] | None:
    """A function that says whether as many other tensors look like these, each a tensor of its own; None where this
    torch has none, or where two of them are one tensor.

    Dynamo's: one call for all tensors, where asking each for its properties takes five for one. They hold no tensor.
    """
    try:
        guards: Any = sys.modules["torch"]._C._dynamo.guards
        found: Callable[..., bool] = guards.TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return found if found(*tensors) is True else None
    except UNUSUAL:
        return None


class Pieces:
    """How a quantized argument is taken apart: which of its buffers the kernel has, as `Slot` reads them."""

    __slots__ = ("fmt", "name", "names", "offsets", "own_scale", "scales", "take")

    def __init__(self, slot: Slot, fmt: BlockFormat, own_scale: bool) -> None:
        self.name = slot.name
        self.fmt = fmt
        self.scales = fmt.scale is not None
        self.own_scale = own_scale and fmt.tensor_scale is not None
        self.offsets = slot.offsets
        pieces = ["codes", *["scales"] * self.scales, *["tensor_scale"] * self.own_scale]
        self.names = [f"{slot.name}.{piece}" for piece in pieces]
        taken = attrgetter(*pieces)
        self.take: Callable[[Any], Sequence[Any]] = taken if len(pieces) > 1 else lambda value: (taken(value),)


def getter(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """A function that takes the values of these names out of a mapping."""
    if len(names) == 1:
        only = names[0]
        return lambda mapping: (mapping[only],)
    return itemgetter(*names) if names else lambda mapping: ()


def numbers(args: Mapping[str, Any], params: Sequence[tuple[str, float | None]], scalars: list[float]) -> int:
    """Add the values of the params; how many of them were given, or -1 for one that the checks have to see."""
    found = 0
    for name, default in params:
        value = args.get(name, default)
        found += name in args
        if type(value) is int:
            value = float(value)
        if type(value) is not float or not -LARGEST < value < LARGEST:
            return -1
        scalars.append(value)
    return found


@dataclass(slots=True)
class New:
    """An output that is allocated: the places of its tensors, and what else a quantized one has."""

    name: str
    first: int
    count: int
    value: Pieces | None = None
    shape: tuple[int, ...] = ()


@dataclass(slots=True)
class Taken:
    """What a call of this kind has: plain tensors by name, values with their formats, shapes and how they are prepared,
    and their number."""

    count: int
    plain: Callable[[Any], Sequence[Any]]
    values: list[tuple[Pieces, BlockFormat, tuple[int, ...], tuple[str, bool] | None]]


class Known:
    """Parameters of calls of a kernel on buffers that come again, as those of layers and of torch's allocator do.

    A block of them is not written any more, so that all threads may use it. What comes once has none.
    """

    def __init__(self) -> None:
        self.blocks: dict[tuple[Any, ...], Block] = {}
        self._seen: set[tuple[Any, ...]] = set()

    def again(
        self, key: tuple[Any, ...], template: Template, addresses: Sequence[int], scalars: Sequence[float]
    ) -> Block | None:
        """A block for what has this key, if it is seen again."""
        if key not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(key)
            return None
        if len(self.blocks) >= _MAX_BLOCKS:
            self.blocks.clear()
        block = self.blocks[key] = template.block(addresses, scalars)
        return block


@dataclass(frozen=True, slots=True)
class Allocation:
    """Memory by the function that Inductor's code calls, which takes half the time of `torch.empty_like`: it passes the
    dispatcher, so that no mode sees it, and allocates on the current device, `here()`."""

    make: Callable[..., Any]
    sizes: list[tuple[tuple[int, ...], tuple[int, ...], Any]]
    device: int
    here: Callable[[], int]
    modes: Callable[[], int]
    functions: Callable[[], int]

    @staticmethod
    def of(models: Sequence[Any]) -> Allocation | None:
        """For tensors like these, row-major; None where this torch has no such function."""
        if not models:
            return None
        torch: Any = sys.modules["torch"]
        device, core = models[0].get_device(), torch._C
        try:
            guards = core._dynamo.guards
            make, here = guards._empty_strided_cpu, lambda: -1
            if device >= 0:
                make, here = guards._empty_strided_cuda, core._cuda_getDevice
            sizes = [(tuple(x.shape), torch.empty_like(x, device="meta").stride(), x.dtype) for x in models]
            return Allocation(make, sizes, device, here, core._len_torch_dispatch_stack, core._len_torch_function_stack)
        except AttributeError:
            return None


@dataclass(slots=True, kw_only=True)
class Placed:
    """Buffers of a kind of calls and what has to hold of where they lie. The order of the buffers: those that are
    given, then what is allocated like the `models`, and what stands for a workspace that is not needed (`tail`)."""

    template: Template
    models: list[Any]
    quickly: Allocation | None
    tail: tuple[int, ...]
    written: list[tuple[int, int, int, int]]
    known: Known
    number: int
    packed: Callable[..., bytes]
    address: Callable[[Any], int]
    guard: Callable[..., bool] | None

    def place(self, tensors: list[Any], scalars: Sequence[float]) -> tuple[list[int], Block | None] | None:
        """Add what is allocated to the tensors, and return all addresses; None where one is not as it has to be.

        Where the same buffers and numbers came before, what they have for parameters too.
        """
        if self.models:
            quick = self.quickly
            if quick is not None and quick.here() == quick.device and not (quick.modes() or quick.functions()):
                make = quick.make
                for size, strides, dtype in quick.sizes:
                    tensors.append(make(size, strides, dtype))
            else:
                torch: Any = sys.modules["torch"]
                for like in self.models:
                    tensor = torch.empty_like(like)
                    if type(tensor) is not torch.Tensor:
                        return None
                    tensors.append(tensor)
        addresses: list[int] = [*map(self.address, tensors)]
        addresses += self.tail
        key = (self.number, *addresses, self.packed(*scalars))
        block = self.known.blocks.get(key)
        if block is not None:
            return addresses, block
        for at, other, size, room in self.written:
            if -room < addresses[other] - addresses[at] < size:
                return None
        if not self.template.aligned(addresses, reduce(or_, addresses, 0)):
            return None
        return addresses, self.known.again(key, self.template, addresses, scalars)


@dataclass(slots=True, kw_only=True)
class Ready(Placed):
    """A kind of calls of a kernel. The order of its buffers: inputs, outputs, a workspace; then those of `Placed`."""

    inputs: Taken
    outputs: Taken | None
    workspace: bool
    params: Sequence[tuple[str, float | None]]
    new: list[New]
    given: list[str]
    simple: bool
    #: Where the outputs start among the tensors, if all are plain and allocated; else -1.
    fresh: int

    def run(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, stream: object | None
    ) -> list[Any] | None:
        """Queue a call of this kind and return its tensors; None where it is of another kind, and nothing was done."""
        guard, wanted = self.guard, self.outputs
        if guard is None or (workspace is None) is self.workspace or (stream is not None and self.models):
            return None
        try:
            scalars: list[float] = []
            found = numbers(args, self.params, scalars) if self.params else 0
            inputs = self.inputs
            if len(args) != inputs.count + found:
                return None
            tensors = [*inputs.plain(args)]
            if inputs.values and not _take(inputs.values, args, args, tensors):
                return None
            if out is None:
                if wanted is not None:
                    return None
            else:
                if type(out) is not dict or wanted is None or len(out) != wanted.count:
                    return None
                tensors += wanted.plain(out)
                if wanted.values and not _take(wanted.values, out, args, tensors):
                    return None
            if workspace is not None:
                tensors.append(workspace)
            if not guard(*tensors):
                return None
            placed = self.place(tensors, scalars)
        except UNUSUAL:
            return None
        if placed is None:
            return None
        self.template.queue(placed[0], scalars, stream, placed[1])
        return tensors


def _take(
    values: Sequence[tuple[Pieces, BlockFormat, tuple[int, ...], tuple[str, bool] | None]],
    source: Mapping[str, Any],
    args: Mapping[str, Any],
    tensors: list[Any],
) -> bool:
    """Add the buffers of quantized arguments; False unless each has the format and the shape that it had, and is
    prepared as it was."""
    for pieces, fmt, shape, prepared in values:
        value = source[pieces.name]
        if type(value) is not Quantized or value.format is not fmt:
            return False
        if value.offsets is not (None if pieces.offsets is None else args[pieces.offsets]):
            return False
        found = value.shape
        if type(found) is not tuple or found != shape:
            return False
        for n in found:
            if type(n) is not int:  # 128.0 and True are equal to integers, and no sizes
                return False
        if (value.prepared is not None or prepared is not None) and kind_of(value) != prepared:
            return False
        tensors += pieces.take(value)
        if prepared is not None and prepared[1]:
            tensors.append(value.prepared.buffer)
    return True


def model(array: Any, *shape: int, **how: Any) -> Any:
    """A tensor that looks like an output: torch makes another like it in less time than from words.

    It has no memory. It is kept, and where a call is recorded in a CUDA graph, or warmed up for one, memory would come
    of the graph's pool, of which torch's trees of graphs allow nothing to be kept.
    """
    found = array.new_empty((), **how).expand(shape or array.shape)
    found.untyped_storage().resize_(0)
    return found


def overlaps(names: Sequence[str], room: Mapping[str, int], written: set[str]) -> list[tuple[int, int, int, int]]:
    """(one, another, bytes of one, bytes of the other) of buffers that may not share memory: the kernel writes one.

    They do where the other's address less that of the one is above minus its own bytes and below those of the one.
    """
    return [
        (i, j, room[name], room[other])
        for i, name in enumerate(names)
        if name in written and room[name]
        for j, other in enumerate(names)
        if j != i and room[other] and not (other in written and j < i)
    ]


_numbers = count()


def placed(
    packer: CallPacker,
    plan: Resolved,
    call: Call,
    given: Sequence[str],
    later: Sequence[str],
    params: Sequence[str],
    known: Known,
) -> dict[str, Any]:
    """The fields of `Placed` but the guard, for a call that was checked: the buffers that are given, those that are
    allocated, and the params, each by name."""
    torch: Any = sys.modules["torch"]
    parts = [*given, *later]
    models = [model(call.parts[name].array) for name in later]
    tail: tuple[int, ...] = ()
    if WORKSPACE not in given:
        parts.append(WORKSPACE)
        if plan.workspace:
            models.append(model(call.parts[given[0]].array, plan.workspace, dtype=torch.uint8))
        else:
            tail = (0,)
    return {
        "template": packer.template(plan, tuple(parts), tuple(params)),
        "models": models,
        "quickly": Allocation.of(models),
        "tail": tail,
        "written": overlaps(given, {name: v.nbytes for name, v in call.parts.items()}, set(call.written)),
        "known": known,
        "number": next(_numbers),
        "packed": struct.Struct(f"<{len(params)}d").pack,
        "address": torch.Tensor.data_ptr,
    }
