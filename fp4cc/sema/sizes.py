"""Sizes and conditions on sizes: from the tree to `Expr`, and what the dims of a kernel are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from fp4cc.diagnostics import Collector, did_you_mean, error
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Constraint, Dim, Expr
from fp4cc.source import Span
from fp4rt import sizes

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod"}
_DIVISIONS = {"div", "floordiv", "mod", "ceildiv"}
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_LOGIC = {"and": "and", "or": "or"}
_FUNCTIONS = {"min": "min", "max": "max", "ceildiv": "ceildiv"}


class Typed(NamedTuple):
    """A size expression, and whether it is a condition."""

    expr: Expr
    condition: bool


class SizeReader:
    """Reads size expressions over the dims of one kernel.

    A dim that maps to False is poisoned: there are no errors about it. An unknown one is reported once and then in
    `unknown`, which readers of one kernel may share.
    """

    def __init__(
        self,
        dims: Mapping[str, bool],
        collector: Collector,
        where: str = "a size",
        unknown: set[str] | None = None,
    ) -> None:
        self.dims = dims
        self.collector = collector
        self.where = where
        self.unknown: set[str] = set() if unknown is None else unknown

    def size(self, node: ast.Expr) -> Expr | None:
        """The node as a whole number, or None after reporting why it is none."""
        typed = self._read(node)
        if typed is None:
            return None
        if typed.condition:
            self._report("a condition where a size is needed", node.span, "this is true or false")
            return None
        return typed.expr

    def condition(self, node: ast.Expr) -> Expr | None:
        """The node as a condition, or None after reporting why it is none."""
        typed = self._read(node)
        if typed is None:
            return None
        if not typed.condition:
            self._report(
                "a size where a condition is needed",
                node.span,
                "this is a number",
                "compare it: `M % 8 == 0`, `M <= 128`",
            )
            return None
        return typed.expr

    def _report(self, title: str, span: Span, text: str, *help: str) -> None:
        self.collector.report(error("FP2016", title, span, text, help=help))

    def _read(self, node: ast.Expr) -> Typed | None:
        match node:
            case ast.Number(value=int() as value):
                return Typed(value, False)
            case ast.Number():
                self._report("sizes are whole numbers", node.span, "not a whole number")
                return None
            case ast.Name():
                return self._name(node)
            case ast.Unary():
                return self._unary(node)
            case ast.Binary():
                return self._binary(node)
            case ast.Call(function=ast.Name(text=name)) if name in _FUNCTIONS:
                return self._call(node, _FUNCTIONS[name])
            case _:
                self._report(
                    f"{self.where} is made of dims and whole numbers",
                    node.span,
                    "not a size",
                    "use + - * / // %, comparisons, `and`, `or`, `not`, `min`, `max`, `ceildiv`",
                )
                return None

    def _name(self, node: ast.Name) -> Typed | None:
        if node.text in self.unknown:
            return None
        if node.text not in self.dims:
            self.unknown.add(node.text)
            known = ", ".join(f"`{d}`" for d in self.dims)
            help = did_you_mean(node.text, self.dims) or (f"the dims are {known}" if known else "")
            self.collector.report(
                error("FP2001", f"no dimension is called `{node.text}`", node.span, "unknown dimension", help=help)
            )
            return None
        return Typed(node.text, False) if self.dims[node.text] else None

    def _unary(self, node: ast.Unary) -> Typed | None:
        inner = self._read(node.operand)
        if inner is None:
            return None
        if inner.condition != (node.op == "not"):
            wanted = "a condition" if node.op == "not" else "a size"
            self._report(f"`{node.op}` needs {wanted}", node.operand.span, f"not {wanted}")
            return None
        if node.op == "+":
            return inner
        return self._made(("not" if node.op == "not" else "neg", inner.expr), inner.condition, node.span)

    def _binary(self, node: ast.Binary) -> Typed | None:
        left, right = self._read(node.left), self._read(node.right)
        if left is None or right is None:
            return None
        logic = node.op in _LOGIC
        operator = _ARITHMETIC.get(node.op) or _COMPARISONS.get(node.op) or _LOGIC.get(node.op)
        if operator is None:
            self._report(f"`{node.op}` does not make a size", node.op_span, "not for sizes")
            return None
        for side, written in ((left, node.left), (right, node.right)):
            if side.condition != logic:
                wanted = "a condition" if logic else "a size"
                self._report(f"`{node.op}` needs {wanted} on both sides", written.span, f"not {wanted}")
                return None
        return self._made((operator, left.expr, right.expr), logic or node.op in _COMPARISONS, node.span)

    def _call(self, node: ast.Call, operator: str) -> Typed | None:
        operands: list[Expr] = []
        for argument in node.arguments:
            if not isinstance(argument, ast.Argument) or argument.name is not None:
                self._report(f"`{operator}` takes sizes only", argument.span, "not a size")
                return None
            size = self.size(argument.value)
            if size is None:
                return None
            operands.append(size)
        if len(operands) != 2:
            self._report(f"`{operator}` of sizes takes two of them", node.span, f"{len(operands)} given")
            return None
        return self._made((operator, *operands), False, node.span)

    def _made(self, expr: Expr, condition: bool, span: Span) -> Typed | None:
        """The expression, folded if it has no names; an operation that cannot be done is reported."""
        try:
            return Typed(_folded(expr), condition)
        except sizes.SizeError as problem:
            self._report(f"this size has no value: {problem}", span, "cannot be computed")
            return None


def read_dims(node: ast.Kernel, collector: Collector) -> tuple[tuple[Dim, ...], dict[str, bool]]:
    """The dims of a kernel, and for each name whether it is sound."""
    sound: dict[str, bool] = {}
    spans: dict[str, Span] = {}
    for dim in node.dims:
        if dim.name.text in spans:
            collector.report(
                error(
                    "FP2002",
                    f"the dimension `{dim.name.text}` is defined twice",
                    dim.name.span,
                    "defined again",
                    also=[(spans[dim.name.text], "first defined here")],
                    help=f"for a square matrix give the second a name of its own: `J = {dim.name.text}`",
                )
            )
            continue
        spans[dim.name.text] = dim.name.span
        sound[dim.name.text] = True
    reader = SizeReader(sound, collector, "the definition of a dimension")
    dims: dict[str, Dim] = {}
    for dim in node.dims:
        name = dim.name.text
        if name in dims:
            continue
        if dim.default is None:
            dims[name] = Dim(name, dim.name.span)
            continue
        expr = reader.size(dim.default)
        if expr is None:
            sound[name] = False
            dims[name] = Dim(name, dim.name.span)
        elif isinstance(expr, int):
            if expr < 1:
                collector.report(
                    error("FP2016", f"the dimension `{name}` is {expr}", dim.default.span, "a size is at least 1")
                )
                sound[name] = False
            dims[name] = Dim(name, dim.name.span, value=expr)
        else:
            dims[name] = Dim(name, dim.name.span, expr=expr)
    _refuse_circles(dims, sound, collector)
    return tuple(dims.values()), sound


def _refuse_circles(dims: Mapping[str, Dim], sound: dict[str, bool], collector: Collector) -> None:
    reported: set[str] = set()
    for name in dims:
        path = [name]
        while (expr := dims[path[-1]].expr) is not None:
            # Follow the first name that leads on; a circle through another is found from its own start.
            following = [n for n in sizes.names(expr) if n in dims and dims[n].expr is not None]
            back = [n for n in following if n in path]
            if back:
                circle = path[path.index(back[0]) :]
                if not reported & set(circle):
                    shown = " -> ".join(f"`{n}`" for n in [*circle, back[0]])
                    collector.report(
                        error(
                            "FP2021",
                            f"the dimension `{back[0]}` is defined by itself",
                            dims[back[0]].span,
                            shown,
                            help="leave one of them without a definition: it is then found from the inputs",
                        )
                    )
                reported.update(circle)
                for member in circle:
                    sound[member] = False
                break
            if not following:
                break
            path.append(following[0])


def resolved(dims: tuple[Dim, ...]) -> dict[str, Expr]:
    """What is known of each dim before a call: its value, or its definition with other known ones put in."""
    known: dict[str, Expr] = {d.name: d.value for d in dims if d.value is not None}
    for _ in dims:
        for d in dims:
            if d.expr is not None:
                known[d.name] = cast("Expr", sizes.substitute(d.expr, known))
    return known


def conjuncts(node: ast.Expr) -> Iterator[ast.Expr]:
    """The conditions that `and` joins, each to be checked and named by itself."""
    if isinstance(node, ast.Binary) and node.op == "and":
        yield from conjuncts(node.left)
        yield from conjuncts(node.right)
    else:
        yield node


def check_static(constraints: tuple[Constraint, ...], dims: tuple[Dim, ...], collector: Collector) -> None:
    """Report constraints that the dims known now already break, and definitions that have no value."""
    known = resolved(dims)
    for d in dims:
        if d.expr is not None and isinstance(value := _settle(d.expr, known), sizes.SizeError):
            collector.report(error("FP2017", f"the dimension `{d.name}` has no value: {value}", d.span, "defined here"))
            known.pop(d.name, None)
    for c in constraints:
        value = _settle(c.expr, known)
        if isinstance(value, sizes.SizeError) or value is False:
            values = ", ".join(f"{n} = {known[n]}" for n in dict.fromkeys(sizes.names(c.expr)) if n in known)
            title = f"`{c.text}` does not hold" + (f" for {values}" if values else "")
            collector.report(
                error("FP2017", title, c.span, "this can never be met", notes=[c.reason] if c.reason else [])
            )


def _settle(expr: Expr, known: Mapping[str, Expr]) -> int | bool | sizes.SizeError | None:
    """The value of an expression if it is known now, None if not yet, the error if it has none."""
    try:
        value = _folded(cast("Expr", sizes.substitute(expr, known)))
    except sizes.SizeError as problem:
        return problem
    return value if isinstance(value, int) else None


def _folded(expr: Expr) -> Expr:
    """The expression if it has names, else its value. SizeError if any part of it that has no names has no value."""
    if isinstance(expr, int | str):
        return expr
    operator, *operands = expr
    parts = [_folded(operand) for operand in operands]
    if all(isinstance(part, int) for part in parts):
        return sizes.evaluate((str(operator), *parts), {})
    if operator in _DIVISIONS and parts[1] == 0:
        raise sizes.SizeError(f"{sizes.text((operator, *operands))} divides by 0")
    return expr
