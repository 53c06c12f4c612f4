"""User functions where they are defined: their names are known, and none calls itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fp4cc.diagnostics import Collector, did_you_mean, error
from fp4cc.diagnostics.foreign import function_help
from fp4cc.frontend import ast
from fp4cc.frontend.units import MAX_ERRORS
from fp4cc.sema.scope import BUILT_INS, Scope

#: Words that stand for themselves in the arguments of built-in functions.
_WORDS = frozenset(("nearest", "all"))
_BUILT_INS = frozenset(BUILT_INS)


def check_functions(functions: Sequence[ast.Function], scope: Scope, collector: Collector) -> None:
    """Report unknown names in the functions of one file and functions that call themselves; those become None."""
    before = len(collector)
    for function in functions:
        if len(collector) - before < MAX_ERRORS:
            _names(function, scope, collector)
        else:
            scope.functions[function.name.text] = None  # not judged any more, and neither are its calls
    own = {f.name.text: f for f in functions if scope.functions.get(f.name.text) is f}
    state: dict[str, str] = {}
    for name in own:
        _visit(name, own, state, [], scope, collector)


def _names(function: ast.Function, scope: Scope, collector: Collector) -> None:
    parameters: dict[str, ast.Parameter] = {}
    before = len(collector)
    for parameter in function.parameters:
        if parameter.name.text in parameters:
            collector.report(
                error(
                    "FP2002",
                    f"the parameter `{parameter.name.text}` occurs twice",
                    parameter.name.span,
                    "again",
                    also=[(parameters[parameter.name.text].name.span, "first here")],
                )
            )
        parameters[parameter.name.text] = parameter
        if parameter.default is not None:
            for node in _leaves(parameter.default):
                _known(node, {}, scope, collector)
    for node in _leaves(function.body):
        _known(node, parameters, scope, collector)
    if len(collector) > before:
        scope.functions[function.name.text] = None


def _known(node: ast.Name | ast.Call, names: dict[str, ast.Parameter], scope: Scope, collector: Collector) -> None:
    if isinstance(node, ast.Call):
        name = node.function
        if (
            isinstance(name, ast.Name)
            and not scope.partial
            and name.text not in _BUILT_INS
            and name.text not in scope.functions
        ):
            collector.report(
                error(
                    "FP2003",
                    f"no function is called `{name.text}`",
                    name.span,
                    "unknown function",
                    help=function_help(name.text) or did_you_mean(name.text, (*scope.functions, *BUILT_INS)),
                )
            )
    elif node.text not in names and node.text not in _WORDS and node.text not in scope.formats:
        collector.report(
            error(
                "FP2001",
                f"nothing is called `{node.text}`",
                node.span,
                "unknown in this function",
                help=did_you_mean(node.text, names) or "a function sees its parameters only: pass it what it needs",
            )
        )


def _leaves(node: ast.Expr) -> Iterator[ast.Name | ast.Call]:
    """The names an expression uses as values, and its calls."""
    todo: list[ast.Expr] = [node]
    while todo:
        match todo.pop():
            case ast.Name() as name:
                yield name
            case ast.Call() as call:
                yield call
                if not isinstance(call.function, ast.Name):
                    todo.append(call.function)
                todo.extend(reversed([a.value for a in call.arguments if isinstance(a, ast.Argument)]))
            case ast.Binary() as binary:
                todo.extend((binary.right, binary.left))
            case ast.Unary(operand=inner) | ast.Attribute(value=inner):
                todo.append(inner)
            case ast.Subscript() as subscript:
                todo.extend((*reversed(subscript.items), subscript.value))
            case ast.Tuple() as several:
                todo.extend(reversed(several.items))
            case ast.Number() | ast.String():
                pass


def _visit(
    name: str, own: dict[str, ast.Function], state: dict[str, str], path: list[str], scope: Scope, collector: Collector
) -> None:
    """Depth-first over calls within the file, without recursion: files are read whole, call chains can be long."""
    todo: list[tuple[str, bool]] = [(name, False)]
    while todo:
        current, leaving = todo.pop()
        if leaving:
            path.pop()
            state[current] = "done"
            continue
        if state.get(current) == "open":
            circle = path[path.index(current) :]
            collector.report(
                error(
                    "FP2005",
                    f"the function `{current}` calls itself",
                    own[current].name.span,
                    " -> ".join(f"`{n}`" for n in [*circle, current]),
                    help="a function is an expression that replaces its call: write it without itself",
                )
            )
            for member in circle:
                scope.functions[member] = None
            continue
        if state.get(current) == "done":
            continue
        path.append(current)
        state[current] = "open"
        todo.append((current, True))
        calls = [
            n.function.text
            for n in _leaves(own[current].body)
            if isinstance(n, ast.Call) and isinstance(n.function, ast.Name)
        ]
        todo.extend((c, False) for c in dict.fromkeys(calls) if c in own)
