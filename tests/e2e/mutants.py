"""Mistakes in an emitted kernel, named by structure: a role's wait for a ring, a load's coordinate, a mask, a call.

A kernel file is parsed, and what is to be broken is found in it by the plan: warps by their role, rings and named
barriers and buffers by their names there, functions by what they are for. So comments, line breaks, the order of what
stands beside it and other numbers may change, and the mistake is still planted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from operator import and_
from typing import Any, TypeVar

from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered.rings import RoleName
from fp4cc.ir.part import Part

A, B, B2, SFA = Part("A"), Part("B"), Part("B", 1), Part("A", scales=True)
N = TypeVar("N", bound=ast.AST)


class NotThereError(AssertionError):
    """The kernel has nothing of the structure that was to be broken."""


class Emitted:
    """A kernel file as a tree, beside the plan that it was made from."""

    def __init__(self, plan: LoweredKernel, text: str) -> None:
        self.plan = plan
        self.tree = ast.parse(text)

    @property
    def text(self) -> str:
        return ast.unparse(self.tree) + "\n"

    @property
    def kernel(self) -> ast.FunctionDef:
        """The kernel itself."""
        decorated = (
            each
            for each in every(self.tree, ast.FunctionDef)
            if any(ast.unparse(decorator) == "cute.kernel" for decorator in each.decorator_list)
        )
        return only(decorated, "kernel")

    def function(self, name: str) -> ast.FunctionDef:
        return only((n for n in every(self.tree, ast.FunctionDef) if n.name == name), f"function {name}")

    def role(self, name: RoleName) -> ast.If:
        """What the warps of a role do with tiles: the statement whose condition holds for them and no others."""
        role = self.plan.role_of(name)
        wanted = set(range(role.first, role.first + role.warps))
        for found in every(self.kernel, ast.If):
            walks = any("tiles" in names(each.iter) for each in every(found, ast.For))
            if walks and "warp" in names(found.test) and self._warps(found.test) == wanted:
                return found
        raise NotThereError(f"no statement for the {name} warps {sorted(wanted)}")

    def _warps(self, test: ast.expr) -> set[int]:
        """The warps of a leader CTA for which a condition holds."""
        known: dict[str, Any] = {"cta_m": 0, "both": and_}
        for statement in self.tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant | ast.UnaryOp):
                known[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
        warps = range(self.plan.launch.threads // 32)
        code = compile(ast.Expression(test), "condition", "eval")
        if not names(test) <= {*known, "warp"}:
            return set()
        return {warp for warp in warps if eval(code, {**known, "warp": warp})}  # noqa: S307  # of our own file

    def put(self, old: ast.AST, new: ast.AST) -> None:
        """Put a node in another's place."""
        for parent in ast.walk(self.tree):
            for field, value in ast.iter_fields(parent):
                if value is old:
                    setattr(parent, field, new)
                    return
                if isinstance(value, list) and any(each is old for each in value):
                    setattr(parent, field, [new if each is old else each for each in value])
                    return
        raise NotThereError("what is to be replaced is not in the file")


Root = Callable[[Emitted], ast.AST]
Find = Callable[[Emitted], Any]
Edit = Callable[[Any], Any]
Change = Callable[[Emitted], None]


@dataclass(frozen=True)
class Mutation:
    """A change of a kernel file.

    `mode`: when copies complete; `k`: the K of the run; `launch`: which of the files of a kernel in several launches;
    `ordered`: it breaks the order of accesses, which is proved whether or not a wrong value comes of it.
    """

    name: str
    change: Change
    mode: str = "immediate"
    k: int = 800
    launch: int = 0
    ordered: bool = False

    def applied(self, plan: LoweredKernel, text: str) -> str:
        """The file with the mistake. AssertionError where there is nothing to break, or nothing comes of it."""
        emitted = Emitted(plan, text)
        self.change(emitted)
        found = emitted.text
        assert found != _unchanged(text), "the kernel is as it was"
        return found


@cache
def _unchanged(text: str) -> str:
    return ast.unparse(ast.parse(text)) + "\n"


# Looking.


def every(root: ast.AST, kind: type[N]) -> Iterator[N]:
    """The nodes of a kind below one, in the order of the text."""
    for node in ast.iter_child_nodes(root):
        if isinstance(node, kind):
            yield node
        yield from every(node, kind)


def only(found: Iterator[N], what: str, which: int = 0) -> N:
    for number, node in enumerate(found):
        if number == which:
            return node
    raise NotThereError(f"the kernel has no {what} number {which + 1}")


def names(node: ast.AST) -> set[str]:
    """The names that code mentions."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def called(node: ast.Call) -> str:
    """The function of a call, without its module."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)


def statement(root: ast.AST, node: ast.AST) -> ast.stmt:
    """The innermost statement around a node."""
    return [each for each in every(root, ast.stmt) if any(below is node for below in ast.walk(each))][-1]


# Roots: where to look.


def everywhere(emitted: Emitted) -> ast.AST:
    return emitted.tree


def kernel(emitted: Emitted) -> ast.AST:
    return emitted.kernel


def role(name: RoleName) -> Root:
    return lambda emitted: emitted.role(name)


def function(name: str) -> Root:
    return lambda emitted: emitted.function(name)


# What is found there.


def call(root: Root, name: str, which: int = 0, where: Callable[[ast.Call], bool] = lambda _: True) -> Find:
    """A call of a function."""

    def find(emitted: Emitted) -> ast.Call:
        found = (each for each in every(root(emitted), ast.Call) if called(each) == name and where(each))
        return only(found, f"call of {name}", which)

    return find


def argument(find: Find, place: int) -> Find:
    return lambda emitted: find(emitted).args[place]


def keyword(find: Find, name: str) -> Find:
    def value(emitted: Emitted) -> ast.expr:
        return only((each for each in find(emitted).keywords if each.arg == name), f"argument {name}").value

    return value


def assigned(root: Root, name: str, which: int = 0) -> Find:
    """What is assigned to a name."""

    def find(emitted: Emitted) -> ast.expr:
        found = (each for each in every(root(emitted), ast.Assign) if ast.unparse(each.targets[0]) == name)
        return only(found, f"value of {name}", which).value

    return find


def updated(root: Root, name: str, operator: type[ast.operator]) -> Find:
    """A statement that updates a name by an operator."""

    def find(emitted: Emitted) -> ast.AugAssign:
        found = (
            each
            for each in every(root(emitted), ast.AugAssign)
            if ast.unparse(each.target) == name and isinstance(each.op, operator)
        )
        return only(found, f"update of {name}")

    return find


def binary(find: Find, operator: type[ast.operator], which: int = 0) -> Find:
    """An operation with an operator in what is found."""

    def inner(emitted: Emitted) -> ast.BinOp:
        root = ast.Expr(find(emitted))  # what is found may be the operation itself
        operations = (each for each in every(root, ast.BinOp) if isinstance(each.op, operator))
        return only(operations, operator.__name__, which)

    return inner


def at_ring(kinds: tuple[str, ...], role_: RoleName, ring: str, which: int) -> Find:
    def find(emitted: Emitted) -> ast.Call:
        emitted.plan.rings.barrier(ring)
        found = (
            each
            for each in every(emitted.role(role_), ast.Call)
            if called(each) in kinds and each.args and ring in names(each.args[0])
        )
        return only(found, f"{kinds[0]} at {ring} of the {role_} warps", which)

    return find


def wait(role_: RoleName, ring: str) -> Find:
    """A role's wait for a barrier of a ring."""
    return at_ring(("wait", "wait_in_cluster"), role_, ring, 0)


def arrival(role_: RoleName, ring: str, which: int = 0) -> Find:
    """A role's arrival at a barrier of a ring, by itself or by its commit."""
    return at_ring(("mbarrier_arrive", "tcgen05_commit"), role_, ring, which)


def meeting(role_: RoleName, barrier: str, which: int = 0) -> Find:
    """A place where a role's warps meet at a named barrier."""
    return call(role(role_), "barrier_cta_sync", which, lambda each: barrier in names(each))


def expected(ring: str) -> Find:
    """How many arrivals a ring's barriers are set up for."""
    return argument(call(kernel, "mbarrier_init", 0, lambda each: ring in names(each.args[0])), 1)


def load(part: Part) -> Find:
    """The TMA load of a part of a stage."""

    def find(emitted: Emitted) -> ast.Call:
        loads = (each for each in every(emitted.role("load"), ast.Call) if called(each).startswith("cp_async_bulk_t"))
        return only((each for each in loads if part.buffer in names(each.args[0])), f"load of {part.name}")

    return find


def coordinate(part: Part, place: int) -> Find:
    """A coordinate of a load's box, innermost first."""
    return lambda emitted: load(part)(emitted).args[2].elts[place]


def destination(part: Part) -> Find:
    """The bytes before where a load lands in its buffer."""
    return lambda emitted: load(part)(emitted).args[0].args[0]


def access(root: Root, pointer: str, which: int = 0) -> Find:
    """The index of an access of an argument in global memory, by its pointer."""
    return argument(call(root, "global_address", which, lambda each: ast.unparse(each.args[0]) == f"{pointer}_ptr"), 1)


def over(root: Root, extent: str) -> Find:
    """The range of the loop over an extent."""

    def find(emitted: Emitted) -> ast.expr:
        loops = (each.iter for each in every(root(emitted), ast.For) if isinstance(each.iter, ast.Call))
        return only((each for each in loops if extent in names(each)), f"loop over {extent}")

    return find


def around(find: Find, kind: type[ast.If | ast.For], role_: RoleName) -> Find:
    """The statement of a kind around what is found: its condition, or what it goes over."""

    def outer(emitted: Emitted) -> ast.expr:
        node = find(emitted)
        holding = [each for each in every(emitted.role(role_), kind) if any(below is node for below in ast.walk(each))]
        wanted = [each for each in holding if isinstance(each, ast.For) or isinstance(each.test, ast.Compare)]
        if not wanted:
            raise NotThereError(f"nothing around it is {kind.__name__}")
        found = wanted[-1]
        return found.test if isinstance(found, ast.If) else found.iter

    return outer


def condition(root: Root, name: str, which: int) -> Find:
    """A condition that compares a name."""

    def find(emitted: Emitted) -> ast.expr:
        tests = (each.test for each in every(root(emitted), ast.If) if isinstance(each.test, ast.Compare))
        return only((test for test in tests if names(test) == {name}), f"condition on {name}", which)

    return find


def instruction(mnemonic: str) -> Find:
    """The text of inline PTX with an instruction."""

    def find(emitted: Emitted) -> ast.Constant:
        texts = (each for each in every(emitted.tree, ast.Constant) if isinstance(each.value, str))
        return only((each for each in texts if mnemonic in str(each.value)), mnemonic)

    return find


# Changes.


def at(find: Find, edit: Edit) -> Change:
    """Put what an edit makes of what is found in its place."""

    def change(emitted: Emitted) -> None:
        node = find(emitted)
        emitted.put(node, edit(node))

    return change


def without(find: Find) -> Change:
    """Leave out the statement that is found, or that is around it."""

    def change(emitted: Emitted) -> None:
        node = find(emitted)
        emitted.put(statement(emitted.tree, node), ast.Pass())

    return change


def constant(name: str, edit: Edit) -> Change:
    """Change a constant of the module."""
    return at(assigned(everywhere, name), edit)


def both(*changes: Change) -> Change:
    def change(emitted: Emitted) -> None:
        for each in changes:
            each(emitted)

    return change


# Edits.


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def to(text: str) -> Edit:
    return lambda _: parsed(text)


def plus(what: int | str) -> Edit:
    return lambda node: ast.BinOp(node, ast.Add(), parsed(str(what)))


def xor(what: int) -> Edit:
    return lambda node: ast.BinOp(node, ast.BitXor(), parsed(str(what)))


def left(node: ast.BinOp) -> ast.AST:
    return node.left


def right(node: ast.BinOp) -> ast.AST:
    return node.right


def argument_of(place: int) -> Edit:
    """The call by one of its arguments."""
    return lambda node: node.args[place]


class _Named(ast.NodeTransformer):
    def __init__(self, old: str | int, new: ast.expr) -> None:
        self.old = old
        self.new = new

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.new if node.id == self.old else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return self.new if node.value == self.old and not isinstance(self.old, str) else node


def instead(old: str | int, new: str | int) -> Edit:
    """Another name or number wherever one stands."""
    return lambda node: _Named(old, parsed(str(new))).visit(node)


class _Terms(ast.NodeTransformer):
    def __init__(self, drop: Callable[[ast.expr], bool]) -> None:
        self.drop = drop

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        return node.left if isinstance(node.op, ast.Add) and self.drop(node.right) else node


def without_term(name: str | None = None) -> Edit:
    """Sums without the terms that mention a name; without one, without those that are numbers."""
    return lambda node: _Terms(lambda term: name in names(term) if name is not None else not names(term)).visit(node)


def operand(place: str, edit: Edit) -> Edit:
    """Edit an operand of an operation: `left`, `right`, or `test`, the number that is compared with."""

    def change(node: Any) -> Any:
        if isinstance(node, ast.Compare):
            node.comparators[0] = edit(node.comparators[0])
        elif isinstance(node, ast.AugAssign):
            node.value = edit(node.value)
        else:
            setattr(node, place, edit(getattr(node, place)))
        return node

    return change


def exchanged(first: int, second: int) -> Edit:
    """A call with two arguments exchanged."""

    def change(node: ast.Call) -> ast.AST:
        node.args[first], node.args[second] = node.args[second], node.args[first]
        return node

    return change


def operands(mnemonic: str, order: str) -> Edit:
    """The first such instruction of inline PTX with its operands in another order: a regular expression's groups."""

    def change(node: ast.Constant) -> ast.AST:
        return ast.Constant(re.sub(mnemonic, order, str(node.value), count=1))

    return change
