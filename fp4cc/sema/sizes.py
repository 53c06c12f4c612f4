"""Sizes and conditions on sizes: from the tree to `Expr`, and what the dims of a kernel are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from fp4cc.diagnostics import Collector, Diagnostic, did_you_mean, error
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Constraint, Dim, Expr
from fp4cc.source import Span
from fp4rt import sizes

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod"}
_DIVISIONS = {"div", "floordiv", "mod", "ceildiv"}
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_LOGIC = {"and": "and", "or": "or"}
_FUNCTIONS = {"min": "min", "max": "max", "ceildiv": "ceildiv"}


#: A size or condition of more parts (numbers, dims, operators) than this is refused (FP2035), once the definitions of
#: its dims are put in: what the passes and each call do with sizes stays small.
MAX_PARTS = 128


class Typed(NamedTuple):
    """A size expression, whether it is a condition, and of how many parts it is made."""

    expr: Expr
    condition: bool
    parts: int = 1


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
        typed = self._small(node)
        if typed is None:
            return None
        if typed.condition:
            self._report("a condition where a size is needed", node.span, "this is true or false")
            return None
        return typed.expr

    def condition(self, node: ast.Expr) -> Expr | None:
        """The node as a condition, or None after reporting why it is none."""
        typed = self._small(node)
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

    def _small(self, node: ast.Expr) -> Typed | None:
        typed = self._read(node)
        if typed is None or typed.parts <= MAX_PARTS:
            return typed
        self.collector.report(too_complicated(node.span))
        return None

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
        operator = "not" if node.op == "not" else "neg"
        return self._made((operator, inner.expr), inner.condition, inner.parts, node.span)

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
        parts = left.parts + right.parts
        return self._made((operator, left.expr, right.expr), logic or node.op in _COMPARISONS, parts, node.span)

    def _call(self, node: ast.Call, operator: str) -> Typed | None:
        operands: list[Typed] = []
        for argument in node.arguments:
            if not isinstance(argument, ast.Argument) or argument.name is not None:
                self._report(f"`{operator}` takes sizes only", argument.span, "not a size")
                return None
            size = self._read(argument.value)
            if size is None:
                return None
            if size.condition:
                self._report("a condition where a size is needed", argument.span, "this is true or false")
                return None
            operands.append(size)
        if len(operands) != 2:
            self._report(f"`{operator}` of sizes takes two of them", node.span, f"{len(operands)} given")
            return None
        return self._made((operator, *(o.expr for o in operands)), False, sum(o.parts for o in operands), node.span)

    def _made(self, expr: Expr, condition: bool, parts: int, span: Span) -> Typed | None:
        """The expression of so many parts, folded if it has no names; what cannot be done is reported."""
        try:
            folded = _folded(expr)
            return Typed(folded, condition) if isinstance(folded, int) else Typed(folded, condition, parts + 1)
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
    _refuse_complicated(dims, sound, collector)
    return tuple(dims.values()), sound


def too_complicated(span: Span) -> Diagnostic:
    """The error of a size of more than MAX_PARTS parts."""
    return error(
        "FP2035",
        f"a size of more than {MAX_PARTS} parts",
        span,
        "more than that is not computed at every call",
        help="make parts of it dynamic dims of their own (without a definition), and state the rest with `where`",
    )


def _refuse_complicated(dims: Mapping[str, Dim], sound: dict[str, bool], collector: Collector) -> None:
    """Report dims whose definition is too large once those of its own dims are put in, and poison what uses them."""
    parts: dict[str, int] = {}
    waiting = [name for name in dims if sound[name]]
    while waiting:
        name = waiting[-1]
        expr = dims[name].expr
        used = [] if expr is None else [n for n in dict.fromkeys(sizes.names(expr)) if n in dims]
        later = [n for n in used if n not in parts and sound[n]]
        if later and name not in parts:
            waiting.extend(later)
            continue
        waiting.pop()
        if name in parts or not sound[name]:
            continue
        parts[name] = 1 if expr is None else _parts(expr, parts)
        if any(not sound[n] for n in used):
            sound[name] = False
        elif parts[name] > MAX_PARTS:
            collector.report(too_complicated(dims[name].span))
            sound[name] = False


def _parts(expr: Expr, known: Mapping[str, int]) -> int:
    if isinstance(expr, int):
        return 1
    if isinstance(expr, str):
        return known.get(expr, 1)
    return 1 + sum(_parts(e, known) for e in expr[1:])


def _refuse_circles(dims: Mapping[str, Dim], sound: dict[str, bool], collector: Collector) -> None:
    """Report dims that are defined by themselves, and poison them; a circle through a reported one is not news."""
    following = {
        name: [n for n in dict.fromkeys(sizes.names(d.expr)) if n in dims] if d.expr is not None else []
        for name, d in dims.items()
    }
    done: set[str] = set()
    for start in dims:
        path: list[str] = []
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            name, leaving = waiting.pop()
            if leaving:
                done.add(path.pop())
            elif name in path:
                circle = path[path.index(name) :]
                if all(sound[member] for member in circle):
                    _report_circle(circle, dims, collector)
                for member in circle:
                    sound[member] = False
            elif name not in done:
                path.append(name)
                waiting.append((name, True))
                waiting.extend((n, False) for n in reversed(following[name]))


def _report_circle(circle: list[str], dims: Mapping[str, Dim], collector: Collector) -> None:
    name = circle[0]
    collector.report(
        error(
            "FP2021",
            f"the dimension `{name}` is defined by itself",
            dims[name].span,
            " -> ".join(f"`{n}`" for n in [*circle, name]),
            help="leave one of them without a definition: it is then found from the inputs",
        )
    )


def resolved(dims: tuple[Dim, ...]) -> dict[str, Expr]:
    """What is known of each dim before a call: its value, or its definition with other known ones put in."""
    known: dict[str, Expr] = {d.name: d.value for d in dims if d.value is not None}
    for _ in dims:
        before = dict(known)
        for d in dims:
            if d.expr is not None:
                known[d.name] = cast("Expr", sizes.substitute(d.expr, known))
        if known == before:
            break
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
        value = _folded(sizes.substitute(expr, known))
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
