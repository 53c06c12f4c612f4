"""The names that a text needs from outside, which decide what of the library and of the DSL a kernel file gets."""

from __future__ import annotations

from fp4cc.codegen.free import free_names


def test_what_a_function_binds_is_its_own() -> None:
    text = "def f(a, *, b):\n    c = g(a)\n    return [h(d) + LIMIT for d in c if d.real > b(size=1)]\n"
    assert free_names(text) == {"g", "h", "LIMIT"}


def test_a_local_name_hides_only_where_it_is_local() -> None:
    assert free_names("def f(x):\n    sign = x\n    return sign\n") == set()
    assert free_names("def f(x):\n    sign = x\n    return sign\n\ndef g(x):\n    return sign(x)\n") == {"sign"}


def test_functions_given_as_arguments_and_decorators_count() -> None:
    assert free_names("@each\ndef f(x):\n    return fold(maximum, x)\n") == {"each", "fold", "maximum"}


def test_strings_and_comments_do_not() -> None:
    assert free_names('def f():\n    """mul(a, b)"""\n    return "div"  # add(1)\n') == set()
