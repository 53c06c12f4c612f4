"""`unzip`: the columns of the product as two interleaved halves, seen by the epilogue as two accumulators.

The epilogue of such a kernel works on the halves' axis. A thread holds 64 columns of the accumulator at a time: 32 of
each half, which the kernel reads from tensor memory as two runs of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Kernel, Store, Value
from fp4cc.ir.lowered import Problem
from fp4cc.ir.lowered_epilogue import Space
from fp4cc.passes.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Frame:
    """What the epilogue sees: the typed kernel with its accumulators, or with one a half and the halves' axis as N.

    `accumulators` are indices in `kernel.values`; `group` is unzip's, None where nothing is unzipped.
    """

    kernel: Kernel
    problem: Space
    accumulators: tuple[int, ...]
    group: int | None = None


def epilogue_frame(kernel: Kernel, problem: Problem, sizes: Sizes) -> Frame:
    """The epilogue's view of a kernel. Raises DiagnosticError for an `unzip` that cannot be built yet."""
    halves = [value for value in kernel.values if value.op == "unzip"]
    if not halves:
        return Frame(kernel, problem, problem.accumulators)
    first = halves[0]
    if len(problem.products) > 1:
        raise _refusal(first, "with more than one product", "give each half a weight and products of its own")
    group = _group(first, problem)
    for other in halves:
        if (other.attrs["axis"], other.attrs["into"], _group(other, problem)) != (
            first.attrs["axis"], first.attrs["into"], group
        ):  # fmt: skip
            raise _refusal(other, "different unzips in one kernel")
    return _Expansion(kernel, problem, sizes, str(first.attrs["into"]), group).frame()


def tile_widths(frame: Frame, widths: Sequence[int]) -> tuple[int, ...]:
    """Those of the tile widths that have whole groups of both halves."""
    return tuple(n for n in widths if frame.group is None or n % max(64, 2 * frame.group) == 0)


def _group(value: Value, problem: Problem) -> int:
    group = value.attrs["group"]
    if value.attrs["axis"] != problem.n_axis:
        raise _refusal(value, f"unzip along {value.attrs['axis']}, which is not the columns of the product")
    if not isinstance(group, int):
        raise _refusal(value, f"halves that lie apart (group = {group})")
    if group > 128 or group & (group - 1):
        raise _refusal(value, f"groups of {group}: they are 1, 2, 4, ... 128 columns")
    return group


def _refusal(
    value: Value, what: str, help: str = "interleave the weights in groups, such as `group = 16`"
) -> DiagnosticError:
    return DiagnosticError([
        error("FP4020", f"this `unzip` cannot be compiled yet: {what}", value.span, "unzipped here", help=help),
    ])  # fmt: skip


class _Expansion:
    """The kernel with what is below each `unzip` computed once for each half."""

    def __init__(self, kernel: Kernel, problem: Problem, sizes: Sizes, into: str, group: int) -> None:
        self._kernel = kernel
        self._problem = problem
        self._sizes = sizes
        self._into = into
        self._group = group
        self._values: list[Value] = []
        self._whole: dict[int, int] = {}  # old index -> new one
        self._halves: dict[tuple[int, int], int] = {}  # (old index, part) -> new one

    def frame(self) -> Frame:
        for index, value in enumerate(self._kernel.values):
            if value.op == "unzip":
                self._whole[index] = self._unzipped(value)
            else:
                operands = tuple(self._whole[o] for o in value.operands)
                self._whole[index] = self._add(replace(value, operands=operands))
        accumulators = tuple(self._half(self._problem.accumulators[0], part, None) for part in (0, 1))
        stores = tuple(Store(s.arg, self._whole[s.value], s.span) for s in self._kernel.stores)
        kernel = replace(self._kernel, values=tuple(self._values), stores=stores)
        extent = self._sizes(self._into)
        problem = replace(self._problem, n=extent, n_axis=self._into, accumulators=accumulators)
        return Frame(kernel, problem, accumulators, self._group)

    def _add(self, value: Value) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _unzipped(self, value: Value) -> int:
        """The half as another name of what it is the half of."""
        part = value.attrs["part"]
        if not isinstance(part, int):
            raise TypeError(f"unzip has part {part!r}")
        half = self._half(value.operands[0], part, value)
        names = {"name": value.attrs["name"]} if "name" in value.attrs else {}
        return self._add(Value("cast", (half,), "f32", value.axes, value.span, names))

    def _half(self, index: int, part: int, user: Value | None) -> int:
        value = self._kernel.values[index]
        if self._problem.n_axis not in value.axes:
            return self._whole[index]
        if (index, part) not in self._halves:
            axes = tuple(self._into if a == self._problem.n_axis else a for a in value.axes)
            attrs = {key: v for key, v in value.attrs.items() if key != "name"}
            if index == self._problem.accumulators[0]:
                new = Value("matmul", (), "f32", axes, value.span, attrs)
            elif value.op in ("arg", "dequantize") and user is not None:
                raise _refusal(user, f"of {value.attrs.get('name')}, which is no product")
            else:
                operands = tuple(self._half(o, part, user) for o in value.operands)
                new = replace(value, operands=operands, axes=axes, attrs=attrs)
            self._halves[index, part] = self._add(new)
        return self._halves[index, part]
