"""The values of a kernel while it is checked: each operation once, with what it depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fp4cc.ir.kernel import Attr, Store, Value
from fp4cc.sema.operands import DType, Val
from fp4cc.source import Span

#: A kernel with more values than this is refused (FP2029).
MAX_VALUES = 4096

#: Operations that read their operand elsewhere than at the place of their own result.
_MOVES = frozenset(("transpose", "unzip", "hadamard", "matmul", "of_group", "gather"))


class TooManyValues(Exception):
    """The kernel has more than MAX_VALUES operations."""


class Values:
    """Builds `Kernel.values`: equal operations on equal operands are one value."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._index: dict[object, int] = {}
        self._names: dict[int, str] = {}
        self._reductions: list[int | None] = []
        self._inouts: list[frozenset[str]] = []
        self._moved: list[frozenset[str]] = []

    def add(
        self,
        op: str,
        operands: Iterable[Val],
        dtype: DType,
        axes: tuple[str, ...],
        span: Span,
        attrs: Mapping[str, Attr] | None = None,
    ) -> Val:
        """The value of this operation, new or the equal one that is there already."""
        indices = tuple(o.index for o in operands)
        held = dict(attrs or {})
        key = (op, indices, dtype, axes, tuple(sorted((k, repr(v)) for k, v in held.items())))
        if key not in self._index:
            if len(self.values) >= MAX_VALUES:
                raise TooManyValues
            self._index[key] = len(self.values)
            self.values.append(Value(op, indices, dtype, axes, span, held))
            self._track(op, indices)
        return Val(self._index[key], dtype, axes)

    def _track(self, op: str, operands: tuple[int, ...]) -> None:
        index = len(self.values) - 1
        below = [r for o in operands if (r := self._reductions[o]) is not None]
        self._reductions.append(index if op == "reduce" else below[0] if below else None)
        read = frozenset[str]().union(*(self._inouts[o] for o in operands))
        moved = frozenset[str]().union(*(self._moved[o] for o in operands))
        self._inouts.append(read)
        self._moved.append(moved | read if op in _MOVES or op == "reduce" else moved)

    def mark_inout(self, value: Val, name: str) -> None:
        """Note that the value reads the inout argument `name`."""
        self._inouts[value.index] = frozenset((name,))

    def inouts(self, value: Val) -> frozenset[str]:
        """The inout arguments that a value reads."""
        return self._inouts[value.index]

    def moved_inouts(self, value: Val) -> frozenset[str]:
        """The inout arguments that a value reads elsewhere than at its own place."""
        return self._moved[value.index]

    def reduction_below(self, value: Val) -> Value | None:
        """A reduction that the value depends on, if there is one."""
        index = self._reductions[value.index]
        return None if index is None else self.values[index]

    def name(self, value: Val, name: str) -> None:
        """Give a value the name of the local that holds it first; generated code keeps it."""
        if self.values[value.index].op not in ("arg", "const", "tensor_scale"):
            self._names.setdefault(value.index, name)

    def finish(
        self, stores: Iterable[tuple[str, Val, Span, Val | None]]
    ) -> tuple[tuple[Value, ...], tuple[Store, ...]]:
        """The values that the stores need, renumbered in order, and the stores."""
        wanted = list(stores)
        needed: set[int] = set()
        todo = [v.index for _, stored, _, at in wanted for v in (stored, at) if v is not None]
        while todo:
            index = todo.pop()
            if index not in needed:
                needed.add(index)
                todo.extend(self.values[index].operands)
        renumbered = {old: new for new, old in enumerate(sorted(needed))}
        values: list[Value] = []
        for old in sorted(needed):
            value = self.values[old]
            attrs = {**value.attrs, "name": self._names[old]} if old in self._names else value.attrs
            values.append(replace(value, operands=tuple(renumbered[o] for o in value.operands), attrs=attrs))
        stored = (
            Store(arg, renumbered[v.index], span, None if at is None else renumbered[at.index])
            for arg, v, span, at in wanted
        )
        return tuple(values), tuple(stored)
