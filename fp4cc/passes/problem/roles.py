"""Which parts of the kernel are its products, and which axis is M, N, K and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Attr, Expr, Kernel, Value
from fp4cc.ir.lowered import Operand, Problem, Product, Role
from fp4cc.ir.lowered_epilogue import Half
from fp4cc.ir.sizes import Sizes, mul
from fp4cc.passes.problem.contracting import beside, refused_within
from fp4cc.passes.problem.groups import contracted_groups, groups_of, in_groups, refused
from fp4cc.passes.problem.halves import Cut, half


def find_problem(kernel: Kernel, sizes: Sizes) -> Problem:
    """The products of a kernel and the accumulators they add to.

    A sum of products, each used only there, is one accumulator: no rounding lies between them. Raises DiagnosticError
    for products of different axes, and for operands that are no inputs or lie otherwise than a kernel can read.
    """
    indices = [i for i, value in enumerate(kernel.values) if value.op == "matmul"]
    first = kernel.values[indices[0]]
    errors = _mixed(kernel, indices)
    found: list[tuple[int, Arg, Arg]] = []
    for index in indices:
        product = kernel.values[index]
        if product.axes != first.axes:
            errors.append(_other_axes(first, product))
        args = [
            _argument(kernel, kernel.values[operand], role, product)
            for role, operand in zip(("A", "B"), product.operands, strict=True)
        ]
        errors.extend(arg for arg in args if isinstance(arg, Diagnostic))
        known = [arg for arg in args if isinstance(arg, Arg)]
        errors.extend(e for arg in known for e in _axis_errors(arg, product))
        errors.extend(beside(known, product))
        if len(known) == 2:
            found.append((index, known[0], known[1]))
    if errors:
        raise DiagnosticError(list(dict.fromkeys(errors)))
    halves = {index: _half(kernel, index, sizes) for index in indices}
    roots = _sums(kernel, indices)
    accumulators = tuple(dict.fromkeys(roots[index] for index in indices))
    extents = {axis.name: axis.extent for arg in kernel.args for axis in arg.axes}
    contracted = contracted_groups(kernel, sizes, first)
    return Problem(
        m=sizes(extents[first.axes[-2]]),
        n=sizes(extents[first.axes[-1]]) if halves[indices[0]] is None else sizes(first.axes[-1]),
        batch=mul(*(sizes(extents[name]) for name in first.axes[:-2])) if contracted is None else contracted.count,
        m_axis=first.axes[-2],
        n_axis=first.axes[-1],
        batch_axes=first.axes[:-2],
        groups=groups_of(kernel, sizes, first.axes[-2], first.axes[:-2]),
        products=tuple(
            Product(
                _operand("A", a, sizes, kernel.values[index]),
                _operand("B", b, sizes, kernel.values[index], halves[index]),
                sizes(extents[str(kernel.values[index].attrs["k"])]),
                str(kernel.values[index].attrs["k"]),
                accumulators.index(roots[index]),
            )
            for index, a, b in found
        ),
        accumulators=accumulators,
        contracted=contracted,
    )


def _mixed(kernel: Kernel, products: Sequence[int]) -> list[Diagnostic]:
    """Why a product over rows in groups is not made together with one that contracts something else."""
    first, *others = (kernel.values[index] for index in products)

    def contracts(product: Value) -> tuple[Attr | None, Attr | None]:
        return product.attrs.get("contracted"), product.attrs["k"] if "contracted" in product.attrs else None

    return [
        error("FP4051", "a product over rows in groups cannot be compiled beside one of something else", product.span,
              f"this contracts `{product.attrs['k']}`",
              also=[(first.span, f"and this `{first.attrs['k']}`")],
              help="write one kernel for each of them")
        for product in others if contracts(product) != contracts(first)
    ]  # fmt: skip


def _sums(kernel: Kernel, products: Sequence[int]) -> dict[int, int]:
    """For each product the value whose accumulator it adds to: itself, or the sum it is a part of."""
    uses = [0] * len(kernel.values)
    for value in kernel.values:
        for operand in value.operands:
            uses[operand] += 1
    for store in kernel.stores:
        uses[store.value] += 1
    parts = {index: [index] for index in products}  # of each accumulator
    for index, value in enumerate(kernel.values):
        # A sum that is named, stored or used twice is still one value; a product with another use is not only a part.
        if value.op == "add" and all(o in parts and uses[o] == 1 for o in value.operands):
            parts[index] = [part for operand in value.operands for part in parts.pop(operand)]
    return {part: root for root, found in parts.items() for part in found}


def _operand(role: Role, arg: Arg, sizes: Sizes, product: Value, half: tuple[Half, Expr] | None = None) -> Operand:
    dtype = arg.format if arg.format is not None else arg.dtype
    across = arg.axes[-1].name != product.attrs["k"]
    rows = sizes(arg.axes[-1 if across else -2].extent)
    divided = "contracted" in product.attrs and not across
    operand = Operand(role, arg.name, dtype, rows, len(arg.axes) > 2, source=arg.source, across=across, divided=divided)
    return operand if half is None else replace(operand, half=half[0], first_row=half[1])


def _half(kernel: Kernel, product: int, sizes: Sizes) -> tuple[Half, Expr] | None:
    """Which half of its argument's rows the right operand of a product has, if not all, and the first of them."""
    operand = kernel.values[kernel.values[product].operands[1]]
    rows = kernel.values[operand.operands[0]] if operand.op == "transpose" else operand
    if rows.op != "unzip":
        return None
    cut = Cut.of(rows)
    found = half(cut, sizes, rows)
    return found, mul(found.part, sizes(cut.into) if found.group is None else found.group)


def _other_axes(first: Value, product: Value) -> Diagnostic:
    axes, others = (", ".join(value.axes) for value in (first, product))
    return error(
        "FP4002", "products with different axes cannot be compiled into one kernel yet", product.span,
        f"a product with the axes [{others}]", also=[(first.span, f"a product with the axes [{axes}]")],
        help="write one kernel for each of them",
    )  # fmt: skip


def _argument(kernel: Kernel, value: Value, role: Role, product: Value) -> Arg | Diagnostic:
    """The argument under an operand (A: as it is, B: under one transpose), or why it cannot be multiplied."""
    side = "left" if role == "A" else "right"
    leaf = kernel.values[value.operands[0]] if value.op == "transpose" else value
    halved = leaf.op == "unzip"
    if halved and role == "B":  # some of the rows of an argument
        leaf = kernel.values[leaf.operands[0]]
    if leaf.op != "arg":
        return error(
            "FP4004", f"the {side} operand of `@` is computed: an operand must be an input of the kernel", value.span,
            "computed inside the kernel",
            help="write the computed tensor with one kernel and multiply it in a second one",
        )  # fmt: skip
    arg = kernel.arg(str(leaf.attrs["name"]))
    if "contracted" in product.attrs:
        return refused_within(arg, product, halved=halved) or arg
    if (value.op == "transpose") != (role == "B"):
        # Of block formats the checker has refused this: scale blocks lie on the last axis.
        return error(
            "FP4005", f"the {side} operand of `@` does not have the contracted axis last in memory", arg.span,
            "its last axis is not contracted", also=[(product.span, "multiplied here")],
            help=f"store it transposed, and write `{arg.name}.T`" if role == "B" else "store it transposed",
        )  # fmt: skip
    return arg


def _axis_errors(arg: Arg, product: Value) -> list[Diagnostic]:
    batch_axes, rows = product.axes[:-2], product.axes[-2]
    divided = (rows, product.attrs["k"]) if "contracted" in product.attrs else (rows,)
    found = [refused(arg, axis) for axis in arg.axes if in_groups(axis) and axis.name not in divided]
    if found:
        return found
    names = tuple(axis.name for axis in arg.axes[:-2])
    if batch_axes and names and names != batch_axes:
        wanted = ", ".join(batch_axes)
        return [
            error("FP4007", f"`{arg.name}` does not have the batch axes [{wanted}] in that order", arg.span,
                  f"its leading axes are [{', '.join(str(n) for n in names)}]",
                  help=f"give it all of [{wanted}] in that order, or none: then every batch shares it"),
        ]  # fmt: skip
    return []


def multiplies(kernel: Kernel) -> bool:
    """Whether there is a product in it."""
    return any(value.op == "matmul" for value in kernel.values)
