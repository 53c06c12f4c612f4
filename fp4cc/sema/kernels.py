"""One kernel: from its tree to the typed kernel."""

from __future__ import annotations

from fp4cc.diagnostics import Collector, Diagnostic, error
from fp4cc.frontend import ast
from fp4cc.frontend.units import MAX_ERRORS
from fp4cc.ir.kernel import Arg, Constraint, Kernel
from fp4cc.sema.arguments import bind
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.declarations import Declarations, block_constraints, check_determined
from fp4cc.sema.expressions import Evaluator
from fp4cc.sema.formats import differences
from fp4cc.sema.indexing import not_by_rows, stored_rows
from fp4cc.sema.operands import POISON, Operand, Pair, Poison, Size, Val, dtype_name, type_text
from fp4cc.sema.quantizing import quantize
from fp4cc.sema.scope import Scope
from fp4cc.sema.sizes import SizeReader, check_static, conjuncts, read_dims
from fp4cc.sema.values import MAX_VALUES, TooManyValues
from fp4cc.source import Span
from fp4num import BlockFormat

#: Kernels with more dims or arguments are refused (FP2029): parameters of a launch are limited, and so are people.
MAX_DIMS = 64
MAX_ARGS = 256


def check_kernel(node: ast.Kernel, scope: Scope, collector: Collector) -> Kernel | None:
    """The typed kernel, without its schedules; None after reporting why there is none."""
    own = Collector()
    large = _too_large(node)
    if large is not None:
        collector.report(large)
        return None
    kernel = _Checker(node, scope, own).run()
    for diagnostic in own.diagnostics:
        collector.report(diagnostic)
    return None if own.failed or not _whole(node) else kernel


def _too_large(node: ast.Kernel) -> Diagnostic | None:
    """The error of a kernel whose head or arguments are more than any kernel needs."""
    declared = [s for s in node.statements if isinstance(s, ast.Declaration)]
    for found, most, what in ((node.dims, MAX_DIMS, "dims"), (declared, MAX_ARGS, "arguments")):
        if len(found) > most:
            title = f"the kernel `{node.name.text}` has more than {most} {what}"
            return error("FP2029", title, found[most].name.span, "one too many", help="split it into several kernels")
    return None


def _whole(node: ast.Kernel) -> bool:
    return not any(isinstance(s, ast.Broken) for s in node.statements)


def _transposing(have: tuple[str, ...], want: tuple[str, ...], text: str) -> str:
    """How to bring a value's axes into an output's order, if one transposition does."""
    if (*have[:-2], *reversed(have[-2:])) != tuple(a for a in want if a in have):
        return "declare the output with its axes in the order of the value"
    shown = text if text.isidentifier() else f"({text})"
    return f"write `{shown}.T`: it swaps the last two axes" if len(text) < 60 else "`.T` swaps the last two axes"


class _Checker:
    def __init__(self, node: ast.Kernel, scope: Scope, collector: Collector) -> None:
        self.node = node
        self.collector = collector
        self.dims, self.sound = read_dims(node, collector)
        args = Declarations(scope, self.sound, collector).read(node.statements)
        for statement in node.statements:
            if isinstance(statement, ast.Broken):
                for name in statement.names:
                    args.setdefault(name, None)
        self.args = args
        derived = {d.name: d.expr for d in self.dims if d.expr is not None}
        broken = [s for s in node.statements if isinstance(s, ast.Broken)]
        self.context = Context(scope, collector, self.sound, args, broken, derived=derived)
        self.evaluator = Evaluator(self.context)
        self.names: dict[str, Operand] = {}
        self.assigned: dict[str, Span] = {}
        self.stores: list[tuple[str, Val, Span, Val | None]] = []

    def run(self) -> Kernel | None:
        written = self._where()
        if _whole(self.node):
            check_determined(self.dims, self.args, self.sound, self.collector)
        try:
            self._bind_inputs()
            for statement in self.node.statements:
                if len(self.collector) >= MAX_ERRORS:
                    place = statement.span
                    self.context.fail("FP1013", f"{MAX_ERRORS} errors in this kernel", place, "the rest is not checked")
                    return None
                if isinstance(statement, ast.Assignment):
                    self._assign(statement)
                elif isinstance(statement, ast.Broken):
                    if not statement.declares:
                        self.assigned.update((n, statement.span) for n in statement.names)
                    self.names.update((n, POISON) for n in statement.names if n not in self.names)
        except TooManyValues:
            self.collector.report(
                error(
                    "FP2029",
                    f"the kernel `{self.node.name.text}` has more than {MAX_VALUES} operations",
                    self.node.name.span,
                    "too large",
                    help="split it into several kernels",
                )
            )
            return None
        self._all_assigned()
        args = [a for a in self.args.values() if a is not None]
        constraints = self._constraints(written)
        check_static(constraints, tuple(d for d in self.dims if self.sound[d.name]), self.collector)
        outputs = [a for a in args if a.direction in ("out", "inout")]
        if self.collector.failed or len(args) < len(self.args) or len(self.stores) < len(outputs):
            return None  # without an error of its own: what it names was defined wrongly elsewhere
        values, stores = self.context.values.finish(self.stores)
        return Kernel(self.node.name.text, self.dims, tuple(args), values, stores, constraints, (), self.node.span)

    def _where(self) -> list[Constraint]:
        if self.node.where is None:
            return []
        reader = SizeReader(self.sound, self.collector, "a condition")
        found: list[Constraint] = []
        for part in conjuncts(self.node.where):
            expr = reader.condition(part)
            if expr is not None:
                found.append(Constraint(expr, " ".join(part.span.text.split()), part.span))
        return found

    def _constraints(self, written: list[Constraint]) -> tuple[Constraint, ...]:
        derived = [*block_constraints(self.args, {}), *self.context.constraints]
        found: dict[object, Constraint] = {}
        for constraint in (*written, *derived):
            if constraint.expr is not True:
                found.setdefault(constraint.expr, constraint)
        return tuple(found.values())

    def _bind_inputs(self) -> None:
        for dim in self.dims:
            self.names[dim.name] = Size(dim.name) if self.sound[dim.name] else POISON
        for name, arg in self.args.items():
            if arg is None:
                self.names.setdefault(name, POISON)
            elif arg.direction != "out":
                self.names[name] = self._leaf(arg)

    def _leaf(self, arg: Arg) -> Val:
        axes = tuple(axis.name or "" for axis in arg.axes)
        value = self.context.add("arg", (), arg.dtype, axes, arg.span, name=arg.name)
        if arg.direction == "inout":
            self.context.values.mark_inout(value, arg.name)
        return value

    # Assignments.

    def _assign(self, node: ast.Assignment) -> None:
        if len(node.targets) != 1:
            self._assign_pair(node)
            return
        target = node.targets[0]
        arg = self.args.get(target.text)
        try:
            operand = self._right_side(node, arg)
        except Failed:
            operand = POISON
        self._bind_target(target, operand, node)

    def _right_side(self, node: ast.Assignment, arg: Arg | None) -> Operand:
        """The operand of the right side. A `quantize` that is all of it takes its format from the destination."""
        value = node.value
        if isinstance(value, ast.Call) and isinstance(value.function, ast.Name) and value.function.text == "quantize":
            if arg is None and node.targets[0].text in self.args:
                return POISON  # an output that was declared wrongly
            given = bind(self.context, "quantize", value)
            fmt = arg.format if arg is not None else None
            axes = tuple(a.name or "" for a in arg.axes) if arg is not None else ()
            if arg is not None and fmt is None:
                raise self.context.fail(
                    "FP3014",
                    f"`{arg.name}` is {dtype_name(arg.dtype)}: it is not quantized",
                    value.span,
                    "quantized here",
                    also=[(arg.span, "declared here")],
                    help=f"assign the value itself, or declare `{arg.name}` with a format",
                )
            if arg is not None or "format" in given:
                return quantize(self.evaluator, given, value, self.names, fmt, axes)
        return self.evaluator.evaluate(value, self.names)

    def _assign_pair(self, node: ast.Assignment) -> None:
        operand = self.evaluator.evaluate(node.value, self.names)
        halves: tuple[Operand, ...] = (POISON,) * len(node.targets)
        if isinstance(operand, Pair) and len(node.targets) == 2:
            halves = (operand.first, operand.second)
        elif not isinstance(operand, Poison):
            count = "2 values" if isinstance(operand, Pair) else "one value"
            self.context.fail(
                "FP2024",
                f"{len(node.targets)} names for {count}",
                node.span,
                "they do not match",
                help="`g, u = unzip(x, N -> F)` makes two values; everything else makes one",
            )
        for target, half in zip(node.targets, halves, strict=True):
            self._bind_target(target, half, node)

    def _bind_target(self, target: ast.Ident, operand: Operand, node: ast.Assignment) -> None:
        name = target.text
        if name in self.assigned:
            self.context.fail(
                "FP2006",
                f"`{name}` is assigned twice",
                target.span,
                "assigned again",
                also=[(self.assigned[name], "first assigned here")],
                help="a name has one value: take a new name",
            )
            return
        if name in self.sound or (name in self.args and (arg := self.args[name]) and arg.direction in ("in", "param")):
            what = "a dimension" if name in self.sound else "an input"
            self.context.fail(
                "FP2008",
                f"`{name}` is {what}: it cannot be assigned",
                target.span,
                "not assignable",
                help="assign to a new name, or to an `out` or `inout` argument",
            )
            return
        self.assigned[name] = target.span
        if name in self.args:
            destination = self.args[name]
            self.names.pop(name, None)
            if destination is not None and not isinstance(operand, Poison):
                try:
                    self._store(destination, operand, node)
                except Failed:
                    return
            return
        if node.at is not None:
            not_by_rows(self.context, target)
        try:
            self.names[name] = self._local(name, operand, node)
        except Failed:
            self.names[name] = POISON

    def _local(self, name: str, operand: Operand, node: ast.Assignment) -> Operand:
        if isinstance(operand, Pair):
            self.context.plain(operand, node.value.span)
        if isinstance(operand, Val):
            self.context.values.name(operand, name)
        return operand

    # Outputs.

    def _store(self, arg: Arg, operand: Operand, node: ast.Assignment) -> None:
        axes, rows = stored_rows(self.evaluator, arg, node, self.names)
        value = self.context.plain(self.context.settled(operand, axes), node.value.span)
        value = self._converted(arg, value, node)
        if arg.format is None:
            (value,) = self.context.of_rows([value], node.value.span, beside=axes)
        self._check_axes(arg, axes, value, node)
        read = self.context.values.moved_inouts(value) if rows is None else self.context.values.inouts(value)
        if arg.direction == "inout" and arg.name in read:
            raise self.context.fail(
                "FP2022",
                f"`{arg.name}` is inout: its old value is read only at its own place",
                node.value.span,
                "depends on old values elsewhere, which the kernel may have written already",
                help=f"take the old value as an `in` argument, and declare `{arg.name}` as `out`",
            )
        self.stores.append((arg.name, value, node.span, rows))

    def _converted(self, arg: Arg, value: Val, node: ast.Assignment) -> Val:
        place = node.value.span
        declared = [(arg.span, "declared here")]
        if isinstance(value.dtype, BlockFormat):
            made = self.context.values.values[value.index]
            if made.op != "quantize" and arg.format is None:
                return self.context.number(value, place)
            if arg.format is None:
                raise self.context.fail(
                    "FP3014",
                    f"a {value.dtype.name} value is stored in {dtype_name(arg.dtype)}",
                    place,
                    "quantized",
                    also=declared,
                    help="write `dequantize(...)` to store what it decodes to",
                )
            if made.op != "quantize" or value.dtype != arg.format:
                lines = differences(value.dtype, arg.format)
                raise self.context.fail(
                    "FP3014",
                    f"a {value.dtype.name} value is stored in {arg.format.name}",
                    place,
                    "another format" if lines else "not quantized by this kernel",
                    also=declared,
                    notes=[f"they differ in {line}" for line in lines],
                    help="dequantize it and quantize it anew: `quantize(dequantize(q), ...)`",
                )
            return value
        if arg.format is not None:
            raise self.context.fail(
                "FP3014",
                f"`{arg.name}` is {arg.format.name}: its value must be quantized",
                place,
                f"this is {type_text(value.dtype, value.axes)}",
                also=declared,
                help=f"write `{arg.name} = quantize(...)`",
            )
        if value.dtype == arg.dtype:
            return value
        return self.context.number(value, place)

    def _check_axes(self, arg: Arg, axes: tuple[str, ...], value: Val, node: ast.Assignment) -> None:
        place = node.value.span
        shown = type_text(value.dtype, value.axes)
        declared = [(arg.span, f"`{arg.name}` has the axes [{', '.join(a or '_' for a in axes)}]")]
        extra = [a for a in value.axes if a not in axes]
        if extra:
            raise self.context.fail(
                "FP2013",
                f"`{arg.name}` has no axis `{extra[0] or '_'}`",
                place,
                f"this is {shown}",
                also=declared,
                help=self._help_for_extra(arg, extra[0], value),
            )
        if value.axes == axes:
            return
        if arg.format is not None:
            swapped = (*value.axes[:-2], *reversed(value.axes[-2:]))
            raise self.context.fail(
                "FP2013",
                f"`{arg.name}` is quantized along `{axes[-1]}`: its value has the same axes in the same order",
                place,
                f"this is {shown}",
                also=declared,
                help="quantize the transposed value: `quantize(h.T, ...)`" if swapped == axes else "",
            )
        if tuple(a for a in axes if a in value.axes) != value.axes:
            raise self.context.fail(
                "FP2013",
                f"the axes of `{arg.name}` are in another order",
                place,
                f"this is {shown}",
                also=declared,
                help=_transposing(value.axes, axes, place.text),
            )

    def _help_for_extra(self, arg: Arg, axis: str, value: Val) -> str:
        """What to do about an axis that a value has and its output has not."""
        made = self.context.values.values[value.index]
        operands = [set(self.context.values.values[operand].axes) for operand in made.operands]
        if made.op == "mul" and all(axis in axes and len(axes) > 1 for axes in operands):
            return "`*` multiplies element by element; a product of matrices is `a @ b.T`"
        if not axis:
            return "give the axis the name of a dim of the kernel"
        return f"reduce over it, such as `{arg.name} = sum(..., over = {axis})`, or add it to the output"

    def _all_assigned(self) -> None:
        for name, arg in self.args.items():
            if any(b.may_define(name) for b in self.context.broken):
                continue
            if arg is not None and arg.direction in ("out", "inout") and name not in self.assigned:
                self.collector.report(
                    error(
                        "FP2007",
                        f"the output `{name}` is never assigned",
                        arg.span,
                        "declared here",
                        help=f"assign it: `{name} = ...`"
                        if arg.direction == "out"
                        else "declare it as `in`, or assign it",
                    )
                )
        if not self.args and _whole(self.node):
            self.collector.report(
                error(
                    "FP2007",
                    f"the kernel `{self.node.name.text}` computes nothing",
                    self.node.name.span,
                    "no output",
                    help="declare one: `out y : bf16[M, N]`",
                )
            )
        elif _whole(self.node) and not any(a is None or a.direction in ("out", "inout") for a in self.args.values()):
            self.collector.report(
                error(
                    "FP2007",
                    f"the kernel `{self.node.name.text}` has no output",
                    self.node.name.span,
                    "no output",
                    help="declare one: `out y : bf16[M, N]`",
                )
            )
