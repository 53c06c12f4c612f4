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
from fp4cc.passes.epilogue.hadamard import columns_of_transform
from fp4cc.passes.epilogue.measure import columns_of_block
from fp4cc.passes.rewrites.split import CARRIED, FreshNames, Split, carrier, once, second_kernel


def split_wide(kernel: Kernel, n_axis: str, columns: int) -> Split | None:
    """The two kernels, for tiles of so many columns along `n_axis`; None where two launches do not help."""
    values = kernel.values
    products = {i for i, value in enumerate(values) if value.op == "matmul"}
    transforms = {i for i, value in enumerate(values) if columns_of_transform(value, n_axis) > columns}
    transformed = _computed_from(kernel, transforms)

    def waits(store: Store) -> bool:
        arg, value = kernel.arg(store.arg), values[store.value]
        return store.value in transformed or columns_of_block(arg, value, n_axis) > columns

    late = [store for store in kernel.stores if waits(store)]
    if not late or any(kernel.arg(store.arg).direction != "out" for store in late):
        return None
    second = _Second(kernel, _computed_from(kernel, products) - transformed, FreshNames(kernel))
    stores = [Store(store.arg, second.copy(store.value, store), store.span) for store in late]
    carried = second.carried
    if any(values[index].dtype not in CARRIED for index in carried):
        return None
    hidden = tuple(carrier(values, store) for store in carried.values())
    outputs = {store.arg for store in late}
    first = replace(
        kernel,
        args=(*(arg for arg in kernel.args if arg.name not in outputs), *hidden),
        stores=(*(store for store in kernel.stores if store.arg not in outputs), *carried.values()),
    )
    what = ", ".join(store.arg for store in late)
    made = Split(
        pruned(first),
        second_kernel(kernel, second.args(outputs), hidden, second.values, stores),
        hidden,
        f"what {what} takes at a time is wider than the {columns} columns of a tile of the product",
        (),
    )
    verify(made.first, "split")
    verify(made.second, "split")
    return made


def _computed_from(kernel: Kernel, roots: set[int]) -> set[int]:
    """The roots and all that is computed from them."""
    found = set(roots)
    for index, value in enumerate(kernel.values):
        if found.intersection(value.operands):
            found.add(index)
    return found


@dataclass
class _Second:
    """The values of the second kernel: of `made`, those of the product, it reads what the first one leaves."""

    kernel: Kernel
    made: set[int]
    names: FreshNames
    values: list[Value] = field(default_factory=list[Value])
    carried: dict[int, Store] = field(default_factory=dict[int, Store])

    def copy(self, index: int, store: Store) -> int:
        """Append a value that a store needs: read it, or compute it from what is read."""
        value = self.kernel.values[index]
        if index in self.made and index != store.value and value.op != "transpose":
            if index not in self.carried:
                self.carried[index] = Store(self.names.new(f"{store.arg}_values"), index, store.span)
            name = self.carried[index].arg
            return once(self.values, Value("arg", (), value.dtype, value.axes, value.span, {"name": name}))
        operands = tuple(self.copy(operand, store) for operand in value.operands)
        return once(self.values, replace(value, operands=operands))

    def args(self, outputs: set[str]) -> Sequence[Arg]:
        """The arguments of the kernel that it reads or writes."""
        read = {str(value.attrs["name"]) for value in self.values if value.op in ("arg", "tensor_scale")}
        return [
            replace(arg, direction="in") if arg.direction == "inout" else arg
            for arg in self.kernel.args
            if arg.name in outputs or arg.name in read
        ]


def pruned(kernel: Kernel) -> Kernel:
    """The kernel without values that no store needs."""
    needed: set[int] = set()
    pending = [value for store in kernel.stores for value in (store.value, store.at) if value is not None]
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
        stores=tuple(
            replace(store, value=new[store.value], at=None if store.at is None else new[store.at])
            for store in kernel.stores
        ),
    )


def read_by(kernel: Kernel) -> set[str]:
    """The arguments that values read, or that divide rows."""
    read = {str(value.attrs["name"]) for value in kernel.values if value.op in ("arg", "tensor_scale")}
    return read | {name for arg in kernel.args for axis in arg.axes for name in (axis.by, axis.upto) if name}
