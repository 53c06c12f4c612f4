"""Fragments: what statements bind and use, which of them something needs, and how they are laid out."""

from __future__ import annotations

import ast

import pytest

from fp4cc.codegen.epilogue.elements import Column, Scalar, element_call
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.fragments import Block, Call, Function, Line, Listed, binds, fragment, functions_text, lines, uses
from fp4cc.codegen.wrap import LINE

LONG = tuple(f"argument_{i}" for i in range(12))
STATEMENTS = fragment(
    "x = add(y, 1.0)  # z",
    "# nothing(at_all)",
    Call("y = load_ahead", LONG),
    Listed("lists, more", Call("element", (*LONG, "a[j]")), "j in range(32)", "zip(*[", "])"),
    Listed(
        "amaxes", "largest(amax, first_argument, second_argument, third_argument, fourth)", "amax in measured_values"
    ),
    Block(
        "if flag != 0:  # by TMA",
        fragment(Block("for i in range(count):", fragment(Call("store", LONG)))),
        fragment("x += 1"),
    ),
)


def test_names_are_those_of_the_syntax() -> None:
    assert binds(STATEMENTS) == {"x", "y", "lists", "more", "amaxes", "i"}
    assert uses(STATEMENTS) == {
        "add", "y", "load_ahead", *LONG, "element", "a", "zip", "range", "largest", "first_argument", "second_argument",
        "third_argument", "fourth", "measured_values", "flag", "count", "store", "x",
    }  # fmt: skip


@pytest.mark.parametrize("indent", range(0, 28, 4))
def test_layout_changes_no_statement(indent: int) -> None:
    """Wherever it stands: the same syntax tree, no line too long, and every line at its depth."""
    text = lines(STATEMENTS, indent)
    rows = text.split("\n")
    assert max(map(len, rows)) <= LINE
    assert all(row.startswith(" " * indent) for row in rows)
    flat = "\n".join(
        [
            *(part.statement for part in STATEMENTS[:-1]),
            "if flag != 0:",
            f"    for i in range(count): store({', '.join(LONG)})",
            "else:",
            "    x += 1",
        ]
    )
    inside = "\n".join(row[indent:] for row in rows)
    assert ast.dump(ast.parse(inside)) == ast.dump(ast.parse(flat))


def test_a_call_is_broken_only_where_it_must_be() -> None:
    arguments = ("first_argument" * 3, "second_argument" * 2, "third")
    call = Call("prims.some_function", arguments)
    limit = LINE - len(call.statement)
    assert "\n" not in lines((call,), limit)
    assert lines((call,), limit + 1).count("\n") == 2
    assert lines((call,), LINE - 4 - len(", ".join(arguments)) + 1).count("\n") == 4


@pytest.mark.parametrize("head", ["x = f", "f", "return f", "if f"])
def test_a_long_line_that_is_a_call_is_broken_as_one(head: str) -> None:
    """Whether its author thought of it or not; a comment stays, and what is no call is left."""
    arguments = [f"first_𠀌_{i} + {i} * {i}" for i in range(8)] + ["by_name=g(1, 2)"]
    end = ":" if head.startswith("if") else ""
    text = f"{head}({', '.join(arguments)}){end}"
    statement = Block(text, fragment("pass")) if end else Line(f"{text}  # why")
    laid = lines([statement], 8).splitlines()
    assert max(map(len, laid)) <= 120
    assert laid[0] == f"        {head}("
    assert [line.strip() for line in laid[1:10]] == [f"{argument}," for argument in arguments]
    assert laid[10] == f"        ){end or '  # why'}"
    long = f"x = {' + '.join(arguments[:-1])}"
    assert lines([Line(long)], 8) == f"        {long}"


def test_needed_keeps_what_is_used_and_in_order() -> None:
    steps = [
        fragment("a = load(p)"),
        fragment("b = load(q)"),
        fragment("c = f(a)  # not of b"),
        fragment("d = [b[j] for j in c]"),
    ]
    assert needed(steps, ["c"]) == fragment(steps[0], steps[2])
    assert needed(steps, ["b"]) == steps[1]
    assert needed(steps, ["d"]) == fragment(*steps)
    assert needed(steps, ["j"]) == ()


def test_elements_two_at_a_time() -> None:
    """A name with a j in it, or that is j, is no column: what is one is said by the argument."""
    arguments = (Column("acc"), Scalar("j_scale"), Scalar("Float32(j)"))
    assert element_call("element", arguments, ["y"], 32, "sm_90a").statement == (
        "y = [element(acc[j], j_scale, Float32(j)) for j in range(32)]"
    )
    assert element_call("element", arguments, ["y"], 32, "sm_100a").statement == (
        "y = singles([element(two(acc, j), j_scale, Float32(j)) for j in range(0, 32, 2)])"
    )
    assert element_call("element", arguments[1:], ["y", "z"], 32, "sm_100a").statement == (
        "y, z = zip(*[element(j_scale, Float32(j)) for j in range(32)])"
    )


def test_a_function_with_a_docstring_of_several_lines() -> None:
    function = Function("f", ("a", "b"), "y = a\n\n    z = b\n", fragment("c = add(a, b)", "return c"))
    assert functions_text([function]) == (
        'def f(a, b):\n    """y = a\n\n        z = b\n    """\n    c = add(a, b)\n    return c'
    )
