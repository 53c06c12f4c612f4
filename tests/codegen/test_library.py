"""The library of emitted kernels: no function takes another's place but where a target has a better one."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from fp4cc.codegen.library import SUBSTITUTES, helper_sources, library, substitute_sources


def parameters(source: str) -> dict[str, list[str]]:
    """The functions of a file, with the names of their parameters."""
    return {
        node.name: [each.arg for each in node.args.args]
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }


def test_a_name_is_one_function_of_the_library() -> None:
    found = Counter(name for source in helper_sources() for name in parameters(source))
    assert [name for name, count in found.items() if count > 1] == []


@pytest.mark.parametrize("target", sorted(SUBSTITUTES))
def test_substitutes_are_called_as_what_they_replace(target: str) -> None:
    """A function of another purpose with the same name would be called with wrong arguments, or silently do wrong."""
    known = {name: each for source in helper_sources() for name, each in parameters(source).items()}
    own = [parameters(source) for source in substitute_sources(target)]
    assert [name for name, count in Counter(name for each in own for name in each).items() if count > 1] == []
    replaced = {name: each for source in own for name, each in source.items() if name in known}
    assert replaced == {name: known[name] for name in replaced}
    assert replaced.keys() <= library(target).names()
