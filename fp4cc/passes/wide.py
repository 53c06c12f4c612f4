"""Kernels in two launches because the tiles of their products are too narrow for what the epilogue does.

Blocks of 128 columns and Hadamard transforms of as many points take tiles of that width; those of several accumulators
or of two halves may be narrower. Then the first launch leaves in the workspace what must be quantized or transformed,
and the second, which has no accumulators and tiles as it likes, does so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fp4cc.ir.kernel import Arg, Kernel, Store, Value
from fp4cc.ir.verify import verify
from fp4cc.passes.epilogue.blocks import columns_of_block, columns_of_transform
from fp4cc.passes.split import CARRIED, FreshNames, Split, carrier, once, second_kernel


def split_wide(kernel: Kernel, n_axis: str, columns: int) -> Split | None:
    """The two kernels, for tiles of so many columns along `n_axis`; None where two launches do not help."""
    made = _Wide(kernel, n_axis, columns).split()
    if made is not None:
        verify(made.first, "split")
        verify(made.second, "split")
    return made


@dataclass
class _Wide:
    kernel: Kernel
    n_axis: str
    columns: int
    read: list[Value] = field(default_factory=list[Value])  # of the second kernel
    carried: dict[int, Store] = field(default_factory=dict[int, Store])

    def split(self) -> Split | None:
        kernel = self.kernel
        values = kernel.values
        self.made = self._above({i for i, value in enumerate(values) if value.op == "matmul"})
        transforms = {i for i, value in enumerate(values) if columns_of_transform(value, self.n_axis) > self.columns}
        self.late = self._above(transforms)
        late = [store for store in kernel.stores if store.value in self.late or self._wide(store)]
        if not late or any(kernel.arg(store.arg).direction != "out" for store in late):
            return None
        self.names = FreshNames(kernel)
        stores = [Store(store.arg, self._copy(store.value, store), store.span) for store in late]
        if any(values[index].dtype not in CARRIED for index in self.carried):
            return None
        hidden = tuple(carrier(values, store) for store in self.carried.values())
        outputs = {store.arg for store in late}
        first = replace(
            kernel,
            args=(*(arg for arg in kernel.args if arg.name not in outputs), *hidden),
            stores=(*(store for store in kernel.stores if store.arg not in outputs), *self.carried.values()),
        )
        second = second_kernel(kernel, self._args(outputs), hidden, self.read, stores)
        why = (
            f"{', '.join(outputs)} takes more columns at a time than the {self.columns} that tiles of the product have"
        )
        return Split(_pruned(first), second, hidden, why, ())

    def _wide(self, store: Store) -> bool:
        """Whether an output's blocks are wider than a tile."""
        return columns_of_block(self.kernel.arg(store.arg), self.kernel.values[store.value], self.n_axis) > self.columns

    def _above(self, roots: set[int]) -> set[int]:
        """The roots and all that is computed from them."""
        found = set(roots)
        for index, value in enumerate(self.kernel.values):
            if found.intersection(value.operands):
                found.add(index)
        return found

    def _copy(self, index: int, store: Store) -> int:
        """Append a value to the second kernel's: read it, or compute it there from what is read."""
        value = self.kernel.values[index]
        if index in self.made and index not in self.late and index != store.value and value.op != "transpose":
            if index not in self.carried:
                self.carried[index] = Store(self.names.new(f"{store.arg}_values"), index, store.span)
            name = self.carried[index].arg
            return once(self.read, Value("arg", (), value.dtype, value.axes, value.span, {"name": name}))
        operands = tuple(self._copy(operand, store) for operand in value.operands)
        return once(self.read, replace(value, operands=operands))

    def _args(self, outputs: set[str]) -> Sequence[Arg]:
        """The arguments of the second kernel that are the kernel's own."""
        read = {str(value.attrs["name"]) for value in self.read if value.op in ("arg", "tensor_scale")}
        return [
            replace(arg, direction="in") if arg.direction == "inout" else arg
            for arg in self.kernel.args
            if arg.name in outputs or arg.name in read
        ]


def _pruned(kernel: Kernel) -> Kernel:
    """The kernel without values that no store needs."""
    needed: set[int] = set()
    pending = [store.value for store in kernel.stores]
    while pending:
        index = pending.pop()
        if index not in needed:
            needed.add(index)
            pending.extend(kernel.values[index].operands)
    new = {old: place for place, old in enumerate(sorted(needed))}
    values = [kernel.values[old] for old in new]
    return replace(
        kernel,
        values=tuple(replace(value, operands=tuple(new[operand] for operand in value.operands)) for value in values),
        stores=tuple(replace(store, value=new[store.value]) for store in kernel.stores),
    )
