"""Pieces of a kernel file that are computed for a spec, as data: statements that know which names they bind and use.

A fragment has no place yet. Only where a template puts it is it known how far in its lines start and which of them are
too long, so nothing but `lines` indents or breaks one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from fp4cc.codegen.wrap import LINE, call

_STEP = "    "
#: Statements that are remembered with their names: a text is made several times, and many are the same in all kernels.
_REMEMBERED = 8192


@dataclass(frozen=True, slots=True)
class Line:
    """A statement with its comment, if it has one, or a comment alone. It is broken only where it is a long call."""

    text: str

    @property
    def statement(self) -> str:
        """It as Python."""
        return self.text


@dataclass(frozen=True, slots=True)
class Call:
    """`head(arguments)`, over several lines where one would be too long; `head` may start an assignment."""

    head: str
    arguments: tuple[str, ...]

    @property
    def statement(self) -> str:
        """It on one line."""
        return f"{self.head}({', '.join(self.arguments)})"


@dataclass(frozen=True, slots=True)
class Listed:
    """`target = [element for loop]`; with other words `before` and `after` in the place of the brackets."""

    target: str
    element: str | Call
    loop: str
    before: str = "["
    after: str = "]"

    @property
    def statement(self) -> str:
        """It on one line."""
        element = self.element if isinstance(self.element, str) else self.element.statement
        return f"{self.target} = {self.before}{element} for {self.loop}{self.after}"


@dataclass(frozen=True, slots=True)
class Block:
    """A statement with others inside: `head` ends in a colon. `otherwise`: those of an `else`."""

    head: str
    body: Fragment
    otherwise: Fragment = ()

    @property
    def statement(self) -> str:
        """What the head does, without what is inside."""
        return f"{self.head}\n{_STEP}pass"


@dataclass(frozen=True, slots=True)
class Function:
    """A function at module level; its docstring may have several lines."""

    name: str
    arguments: tuple[str, ...]
    doc: str
    body: Fragment


Statement = Line | Call | Listed | Block
Fragment = tuple[Statement, ...]


def fragment(*parts: str | Statement | Iterable[Statement]) -> Fragment:
    """Statements in order; of text each is a line."""
    found: list[Statement] = []
    for part in parts:
        match part:
            case str():
                found.append(Line(part))
            case Line() | Call() | Listed() | Block():
                found.append(part)
            case _:
                found.extend(part)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Facts:
    """The names that a statement binds, and those that it reads; what a comprehension binds is neither."""

    binds: frozenset[str]
    uses: frozenset[str]


def binds(fragment: Iterable[Statement]) -> frozenset[str]:
    """The names that statements bind."""
    return frozenset[str]().union(*(facts(part.statement).binds for part in _all(fragment)))


def uses(fragment: Iterable[Statement]) -> frozenset[str]:
    """The names that statements read."""
    return frozenset[str]().union(*(facts(part.statement).uses for part in _all(fragment)))


@lru_cache(_REMEMBERED)
def facts(statement: str) -> Facts:
    """The facts of a statement on one line. SyntaxError for what is no Python."""
    nodes = list(ast.walk(ast.parse(statement)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {
        name.id
        for node in nodes
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    updated = [node.target for node in nodes if isinstance(node, ast.AugAssign)]
    changed = {target.id for target in updated if isinstance(target, ast.Name)}
    bound = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    return Facts(frozenset(bound - own), frozenset((read - own) | changed))


def lines(fragment: Iterable[Statement], indent: int) -> str:
    """The statements as text at an indent."""
    return "\n".join(_text(part, indent) for part in fragment)


def functions_text(functions: Iterable[Function]) -> str:
    """Functions with two blank lines between them."""
    return "\n\n\n".join(_function(function) for function in functions)


def _function(function: Function) -> str:
    doc = "\n".join(f"{_STEP}{line}" if line else "" for line in f'"""{function.doc}"""'.split("\n"))
    head = f"def {function.name}({', '.join(function.arguments)}):"
    return f"{head}\n{doc}\n{lines(function.body, len(_STEP))}"


def _text(part: Statement, indent: int) -> str:
    pad = " " * indent
    match part:
        case Line():
            return pad + _broken(part.text, indent)
        case Call():
            inner = indent + len(_STEP)
            return pad + call(indent, part.head, [_broken(argument, inner, len(",")) for argument in part.arguments])
        case Listed():
            return _listed(part, indent)
        case Block():
            inner = indent + len(_STEP)
            text = f"{pad}{_broken(part.head, indent)}\n{lines(part.body, inner)}"
            return f"{text}\n{pad}else:\n{lines(part.otherwise, inner)}" if part.otherwise else text


def _broken(text: str, indent: int, after: int = 0) -> str:
    """A statement, or the head of a block: over several lines where it is too long and a call's value is all of it.

    `after`: columns of what stands behind it.
    """
    if indent + len(text) + after <= LINE or text.startswith("#"):
        return text
    source = f"{text} pass" if text.endswith(":") else text
    (statement,) = ast.parse(source).body
    match statement:
        case ast.Assign(value=ast.Call() as found) | ast.Expr(value=ast.Call() as found):
            pass
        case ast.Return(value=ast.Call() as found) | ast.If(test=ast.Call() as found):
            pass
        case _:
            return text
    given = [ast.get_source_segment(source, each) or "" for each in found.args]
    named = [(each.arg, ast.get_source_segment(source, each.value)) for each in found.keywords]
    data = source.encode()  # marks have several bytes a letter, and the syntax tree counts bytes
    head, end = data[: found.func.end_col_offset].decode(), data[found.end_col_offset :].decode()
    arguments = [*given, *(f"{name}={value}" for name, value in named)]
    return call(indent, head, arguments) + end.removesuffix(" pass")


def _listed(part: Listed, indent: int) -> str:
    pad, inner = " " * indent, indent + len(_STEP)
    if indent + len(part.statement) <= LINE:
        return pad + part.statement
    element = part.element if isinstance(part.element, Call) else Line(part.element)
    return "\n".join(
        [
            f"{pad}{part.target} = {part.before}",
            _text(element, inner),
            f"{pad}{_STEP}for {part.loop}",
            f"{pad}{part.after}",
        ]
    )


def _all(fragment: Iterable[Statement]) -> Iterable[Statement]:
    for part in fragment:
        yield part
        if isinstance(part, Block):
            yield from _all(part.body)
            yield from _all(part.otherwise)
