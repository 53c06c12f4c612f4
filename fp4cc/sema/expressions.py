"""Expressions to values: names, operators, products, and calls of user functions."""

from __future__ import annotations

from collections.abc import Iterable

from fp4cc.diagnostics import did_you_mean
from fp4cc.diagnostics.foreign import VALUES, function_help
from fp4cc.frontend import ast
from fp4cc.ir.kernel import Arg
from fp4cc.sema import builtins, indexing, products
from fp4cc.sema.context import Context, Failed
from fp4cc.sema.evaluation import Names
from fp4cc.sema.operands import POISON, Literal, Operand, Poison, Size, Val
from fp4cc.sema.scope import BUILT_INS
from fp4cc.sema.sizes import MAX_PARTS, too_complicated
from fp4cc.source import Span

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}

#: How deep calls of user functions and expressions may nest together, and how many expressions one kernel may have
#: once its calls are replaced by their bodies.
MAX_NESTING = 160
MAX_STEPS = 50_000


class Evaluator:
    """Evaluates expressions of one kernel. A subexpression with an error is poison: it is reported once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.depth = 0
        self.steps = 0
        self.exhausted = False  # the kernel is too large: said once

    def evaluate(self, node: ast.Expr, names: Names) -> Operand:
        """The operand an expression stands for."""
        self.depth += 1
        self.steps += 1
        try:
            if self.exhausted:
                return POISON
            if self.depth > MAX_NESTING or self.steps > MAX_STEPS:
                self.exhausted = True
                raise self.context.fail(
                    "FP2029",
                    "this kernel is too large once its functions are put in",
                    node.span,
                    f"more than {MAX_NESTING} deep" if self.depth > MAX_NESTING else f"more than {MAX_STEPS} steps",
                    help="compute shared parts once and give them names",
                )
            return self._evaluate(node, names)
        except Failed:
            return POISON
        finally:
            self.depth -= 1

    def _evaluate(self, node: ast.Expr, names: Names) -> Operand:
        match node:
            case ast.Name():
                return self._name(node, names)
            case ast.Number():
                return Literal(node.value)
            case ast.Binary():
                return self._binary(node, names)
            case ast.Unary():
                return self._unary(node, names)
            case ast.Call():
                return self._call(node, names)
            case ast.Attribute():
                return self._attribute(node, names)
            case ast.Subscript():
                return self._subscript(node, names)
            case ast.Tuple():
                raise self.context.fail("FP2023", "a tuple is not a value", node.span, "one value is needed")
            case ast.String():
                raise self.context.fail("FP2023", "a string is not a value", node.span, "strings name files in `use`")

    def _name(self, node: ast.Name, names: Names) -> Operand:
        if node.text in names:
            return names[node.text]
        if (arg := self.context.args.get(node.text)) is not None and not self.context.calls:
            raise self._output_read(node, arg)
        if node.text in self.context.args and not self.context.calls:
            return POISON
        scope = self.context.scope
        if node.text in BUILT_INS or scope.functions.get(node.text) is not None:
            raise self.context.fail(
                "FP2001",
                f"`{node.text}` is a function",
                node.span,
                "used without arguments",
                help=f"call it: `{node.text}(...)`",
            )
        if node.text in scope.formats:
            raise self.context.fail("FP2001", f"`{node.text}` is a format, not a value", node.span, "a type")
        if not self.context.judges(node.text):
            return POISON
        raise self.context.fail(
            "FP2001",
            f"nothing is called `{node.text}`",
            node.span,
            "unknown name",
            help=VALUES.get(node.text.casefold()) or did_you_mean(node.text, names),
        )

    def _output_read(self, node: ast.Name, arg: Arg) -> Failed:
        if arg.direction == "inout":
            return self.context.fail(
                "FP2009",
                f"`{arg.name}` is read after it is assigned",
                node.span,
                "which of its values is meant?",
                help="give the new value a name, assign that, and use the name",
            )
        return self.context.fail(
            "FP2009",
            f"`{arg.name}` is an output: it cannot be read",
            node.span,
            "read here",
            also=[(arg.span, "declared here")],
            help="give the value a name, assign that, and use the name",
        )

    def _binary(self, node: ast.Binary, names: Names) -> Operand:
        left, right = self.evaluate(node.left, names), self.evaluate(node.right, names)
        if isinstance(left, Poison) or isinstance(right, Poison):
            return POISON
        if node.op == "@":
            return products.matmul(self.context, (left, node.left.span), (right, node.right.span), node)
        if (size := _size(node.op, left, right)) is not None:
            if size.parts > MAX_PARTS:
                self.context.collector.report(too_complicated(node.span))
                raise Failed
            return size
        op = _ARITHMETIC.get(node.op) or _COMPARISONS.get(node.op) or (node.op if node.op in ("and", "or") else None)
        if op is None:
            raise self.context.fail(
                "FP2018",
                f"`{node.op}` is for sizes only",
                node.op_span,
                "not for values",
                help="divide with `/`" if node.op == "%" else ("divide with `/`", "comments start with `#`"),
            )
        return self.context.elementwise(op, ((left, node.left.span), (right, node.right.span)), node.span)

    def _unary(self, node: ast.Unary, names: Names) -> Operand:
        operand = self.evaluate(node.operand, names)
        if isinstance(operand, Poison):
            return POISON
        if node.op == "+":
            return operand if isinstance(operand, Literal | Size) else self.context.number(operand, node.operand.span)
        if node.op == "-" and isinstance(operand, Size):
            return Size(("neg", operand.expr), operand.parts + 1)
        op = "neg" if node.op == "-" else "not"
        return self.context.elementwise(op, ((operand, node.operand.span),), node.span)

    def _attribute(self, node: ast.Attribute, names: Names) -> Operand:
        operand = self.evaluate(node.value, names)
        if isinstance(operand, Poison):
            return POISON
        if node.name.text != "T":
            hint = "write `.T` to swap the last two axes"
            if node.name.text in ("codes", "scales", "tensor_scale"):
                hint = "an operand is used whole: the compiler applies its scales"
            raise self.context.fail(
                "FP2023", f"values have no `.{node.name.text}`", node.name.span, "unknown", help=hint
            )
        return products.transpose(self.context, self.context.plain(operand, node.value.span), node.span)

    def _subscript(self, node: ast.Subscript, names: Names) -> Operand:
        if len(node.items) != 1:
            raise self.context.fail(
                "FP2023",
                "values are not indexed by several",
                node.span,
                "one index here",
                help="tensors meet by the names of their axes; `x[rows]` takes rows by an input of their numbers",
            )
        value, index = self.evaluate(node.value, names), self.evaluate(node.items[0], names)
        if isinstance(value, Poison) or isinstance(index, Poison):
            return POISON
        return indexing.gathered(self.context, node, value, index)

    # Calls.

    def _call(self, node: ast.Call, names: Names) -> Operand:
        if not isinstance(node.function, ast.Name):
            help = ""
            if isinstance(node.function, ast.Attribute):
                help = self._help_for_method(node.function.name.text)
            raise self.context.fail(
                "FP2023", "only functions are called", node.function.span, "not the name of one", help=help
            )
        name = node.function.text
        if name in BUILT_INS:
            return builtins.call(self, name, node, names)
        functions = self.context.scope.functions
        if name not in functions:
            for argument in node.arguments:
                if isinstance(argument, ast.Argument):
                    self.evaluate(argument.value, names)
            if self.context.scope.partial or names.get(name) is POISON:
                return POISON
            known = (*functions, *BUILT_INS)
            raise self.context.fail(
                "FP2003",
                f"no function is called `{name}`",
                node.function.span,
                "unknown function",
                help=self._help_for_call(name, known),
            )
        function = functions[name]
        if function is None:
            return POISON
        bound = self._bind(function, node, names)
        self.context.calls.append(node.span)
        outside, self.context.scope = self.context.scope, self.context.scope.home(function)
        try:
            for key, parameter in ((p.name.text, p) for p in function.parameters):
                if key not in bound and parameter.default is not None:
                    bound[key] = self.evaluate(parameter.default, {})
            return self.evaluate(function.body, bound)
        finally:
            self.context.scope = outside
            self.context.calls.pop()

    def _help_for_method(self, name: str) -> str:
        if name == "T":
            return "write `.T`"
        if name in BUILT_INS or name in self.context.scope.functions:
            return f"write `{name}(...)`"
        return function_help(name) or "values have no methods"

    def _help_for_call(self, name: str, known: Iterable[str]) -> str:
        if name in self.context.scope.formats:
            return f"quantize into an output of that format: `q = quantize(x)` with `out q : {name}[M, N]`"
        if name == "ceildiv":
            return "sizes are computed in the head, as in `kernel k(M, C = ceildiv(M, 2))`: the dim is then a number"
        return function_help(name) or did_you_mean(name, known)

    def _bind(self, function: ast.Function, node: ast.Call, names: Names) -> dict[str, Operand]:
        """The parameters of a user function and what this call gives them, without those it leaves to defaults."""
        parameters = {p.name.text: p for p in function.parameters}
        bound: dict[str, Operand] = {}
        order = list(parameters)
        for position, argument in enumerate(node.arguments):
            if isinstance(argument, ast.Renaming):
                raise self._wrong(function, argument.span, "`->` is for `unzip` only")
            if argument.name is None and position >= len(order):
                raise self._wrong(function, argument.span, f"it takes {len(order)}")
            key = order[position] if argument.name is None else argument.name.text
            if key not in parameters:
                raise self._wrong(
                    function, argument.span, f"it has no parameter `{key}`", did_you_mean(key, parameters)
                )
            if key in bound:
                raise self._wrong(function, argument.span, f"`{key}` is given already")
            bound[key] = self.evaluate(argument.value, names)
        for key, parameter in parameters.items():
            if key not in bound and parameter.default is None:
                raise self._wrong(function, node.span, f"`{key}` is missing")
        return bound

    def _wrong(self, function: ast.Function, span: Span, text: str, *help: str) -> Failed:
        shape = ", ".join(p.name.text + (" = ..." if p.default else "") for p in function.parameters)
        name = function.name.text
        return self.context.fail(
            "FP2004",
            f"wrong arguments to `{name}`",
            span,
            text,
            also=[(function.name.span, "defined here")],
            help=(*help, f"it is `{name}({shape})`"),
        )

    # For the built-in functions.

    def value(self, node: ast.Expr, names: Names) -> Val:
        """The argument's value, its element type kept; raises Failed where there is none."""
        return self.context.plain(self.evaluate(node, names), node.span)

    def number(self, node: ast.Expr, names: Names) -> Val:
        """The argument's value as f32."""
        return self.context.number(self.evaluate(node, names), node.span)


def _size(op: str, left: Operand, right: Operand) -> Size | None:
    """Arithmetic of sizes stays exact, `/` apart: there a number is meant."""
    whole = {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}.get(op)
    sides = [
        s.expr if isinstance(s, Size) else s.value if isinstance(s, Literal) and isinstance(s.value, int) else None
        for s in (left, right)
    ]
    if whole is None or None in sides or not (isinstance(left, Size) or isinstance(right, Size)):
        return None
    return Size(
        (whole, *(s for s in sides if s is not None)),
        1 + sum(s.parts if isinstance(s, Size) else 1 for s in (left, right)),
    )
