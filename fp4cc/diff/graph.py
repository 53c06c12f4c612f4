"""Whether two kernels compute the same numbers: their values compared as graphs, up to names and to what commutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fp4cc.diff.changes import Change
from fp4cc.diff.renaming import IDENTITY, Renaming
from fp4cc.ir.kernel import Attr, Expr, Kernel, Value
from fp4num import BlockFormat
from fp4rt.sizes import text

#: Operations whose result does not depend on the order of their two operands, to the bit.
_COMMUTE = frozenset(("add", "mul", "eq", "ne", "and", "or"))
#: Attributes that are axes or tuples of them, sizes, and names of arguments. `name` of others is a local's.
_AXES = frozenset(("over", "axis", "into", "k", "rows"))
_SIZES = frozenset(("expr", "group", "groups"))
_ARGUMENTS = frozenset(("ragged", "contracted", "masked"))
_LEAVES = frozenset(("arg", "tensor_scale"))
_NARROWER = frozenset(("bf16", "f16", "e4m3", "e5m2"))

Key: TypeAlias = "tuple[object, ...]"


def numeric_changes(before: Kernel, after: Kernel, names: Renaming) -> Iterator[Change]:
    """Where what is stored into each output that both have differs. Types of arguments are not compared here."""
    numbers: dict[Key, int] = {}
    ours, theirs = _Graph(before, names, numbers), _Graph(after, IDENTITY, numbers)
    stores = {s.arg: s for s in after.stores}
    pairs = [(s.value, stores[names.arg(s.arg)].value) for s in before.stores if names.arg(s.arg) in stores]
    seen: set[tuple[int, int]] = set()
    # From the results inward, to the nearest operations that differ. Chains of operations can be thousands long.
    waiting = pairs[::-1]
    while waiting:
        a, b = waiting.pop()
        a, b = ours.widened(a), theirs.widened(b)
        if ours.numbers[a] == theirs.numbers[b] or (a, b) in seen:
            continue
        seen.add((a, b))
        first, second = before.values[a], after.values[b]
        if ours.local(a) != theirs.local(b) or len(first.operands) != len(second.operands):
            yield Change("numerics", _became(first, second), first.span, second.span)
        else:
            waiting.extend(reversed(_differing(ours, theirs, first, second)))


def _differing(ours: _Graph, theirs: _Graph, first: Value, second: Value) -> list[tuple[int, int]]:
    """Operands of two values that belong together; for operations that commute, those without an equal partner."""
    left, right = list(first.operands), list(second.operands)
    if first.op in _COMMUTE:
        for operand in first.operands:
            partner = next((o for o in right if theirs.numbers[o] == ours.numbers[operand]), None)
            if partner is not None:
                left.remove(operand)
                right.remove(partner)
    return list(zip(left, right, strict=True))


@dataclass(slots=True)
class _Graph:
    """A kernel's values, each with a number that equal values of both kernels share: `shared` is that of each form."""

    kernel: Kernel
    names: Renaming
    shared: dict[Key, int]
    numbers: list[int] = field(default_factory=list[int])
    _stored: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self._stored = frozenset(s.value for s in self.kernel.stores)
        for index, value in enumerate(self.kernel.values):
            inner = self.widened(index)
            if inner != index:
                self.numbers.append(self.numbers[inner])
                continue
            operands = [self.numbers[o] for o in value.operands]
            if value.op in _COMMUTE:
                operands.sort()
            self.numbers.append(self.shared.setdefault((self.local(index), *operands), len(self.shared)))

    def widened(self, index: int) -> int:
        """The value itself where it is only widened to f32: that changes no number."""
        value = self.kernel.values[index]
        while value.op == "cast" and value.dtype == "f32":
            inner = self.kernel.values[value.operands[0]]
            if inner.dtype not in _NARROWER:
                break
            index, value = value.operands[0], inner
        return index

    def local(self, index: int) -> Key:
        """What a value is apart from its operands."""
        value = self.kernel.values[index]
        attrs = tuple(sorted((k, self._attr(value, k, v)) for k, v in value.attrs.items() if self._counts(value, k)))
        # Types of arguments, and so the format of what is quantized and stored, are compared where they are declared.
        made = value.op == "quantize" and index not in self._stored
        dtype = _format(value.dtype) if isinstance(value.dtype, BlockFormat) and made else _plain_type(value)
        axes = () if value.op in _LEAVES else tuple(self.names.axis(a) for a in value.axes)
        return (value.op, dtype, axes, attrs)

    def _counts(self, value: Value, key: str) -> bool:
        return key != "name" or value.op in _LEAVES

    def _attr(self, value: Value, key: str, attr: Attr) -> str:
        if key == "name" or key in _ARGUMENTS:
            return self.names.arg(str(attr))
        if key in _SIZES:
            return text(self.names.size(_size(attr)).expr())
        if key in _AXES:
            axes = attr if isinstance(attr, tuple) else (attr,)
            return ", ".join(self.names.axis(str(a)) for a in axes)
        return repr(attr)


def _size(attr: Attr) -> Expr:
    return attr  # type: ignore[return-value]  # these attributes hold sizes


def _format(fmt: BlockFormat) -> Key:
    return (fmt.element, fmt.scale, fmt.block, fmt.tensor_scale, fmt.each_batch, fmt.quantizer)


def _plain_type(value: Value) -> Key:
    return () if value.op in _LEAVES or isinstance(value.dtype, BlockFormat) else (value.dtype,)


def _became(first: Value, second: Value) -> str:
    a, b = _shown(first), _shown(second)
    if a != b:
        return f"{a} became {b}"
    changed = [
        f"{key} {_plain(first.attrs.get(key))} became {_plain(second.attrs.get(key))}"
        for key in sorted(first.attrs.keys() | second.attrs.keys())
        if key != "name" and first.attrs.get(key) != second.attrs.get(key)
    ]
    return f"{a}: {', '.join(changed)}" if changed else f"{a} of other axes"


def _shown(value: Value) -> str:
    match value.op:
        case "const":
            return f"{value.attrs['value']!r}"
        case "arg":
            return f"`{value.attrs['name']}`"
        case "tensor_scale":
            return f"the tensor scale of `{value.attrs['name']}`"
        case "dim":
            return f"the size {text(_size(value.attrs['expr']))}"
        case "reduce":
            return f"`{value.attrs['kind']}`"
        case "cast":
            return f"a cast to {value.dtype}"
        case _:
            return f"`{value.op}`"


def _plain(attr: Attr | None) -> str:
    if isinstance(attr, tuple):
        return f"({', '.join(_plain(a) for a in attr)})"
    return "none" if attr is None else str(attr)
