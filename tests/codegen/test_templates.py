"""Templates substitute: each number in an emitted kernel was decided in Python, and each block stands once.

Read from the templates' own syntax trees, so that a new engine's template is held to the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

TEMPLATES = Path(__file__).parents[2] / "templates"
PATHS = sorted(TEMPLATES.rglob("*.j2"))
#: What templates may count with: how far a line is from the left.
LAYOUT = frozenset({"depth", "at", "inner"})
ARITHMETIC = (nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg, nodes.Add)
#: Filters that make another number, or choose by the wording of a text.
FILTERS = frozenset({"int", "float", "round", "abs", "sum", "max", "min", "replace", "format", "truncate", "slice"})


@cache
def _tree(text: str) -> nodes.Template:
    return jinja2.Environment(trim_blocks=True, lstrip_blocks=True).parse(text)


def arithmetic(text: str) -> Iterator[tuple[int, str]]:
    """Lines of a template that make a number or a name of others, by what they do."""
    for node in _tree(text).find_all(ARITHMETIC):
        if not _layout(node) and not _of_lists(node):
            yield node.lineno, type(node).__name__
    for node in _tree(text).find_all(nodes.Filter):
        if node.name in FILTERS:
            yield node.lineno, node.name


def _layout(node: nodes.Node) -> bool:
    """Spaces before a line, and their number."""
    names = {name.name for name in node.find_all(nodes.Name)}
    return isinstance(node, nodes.Add | nodes.Mul) and bool(names) and names <= LAYOUT


def _of_lists(node: nodes.Node) -> bool:
    """Arguments of a call, one list after another."""
    return isinstance(node, nodes.Add) and any(isinstance(side, nodes.List) for side in (node.left, node.right))


def test_templates_are_found() -> None:
    assert {"sm100/gemm.py.j2", "sm90/gemm.py.j2", "sm90/decode.py.j2", "common/kernel.py.j2"} <= {
        str(path.relative_to(TEMPLATES)) for path in PATHS
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_a_template_holds_no_arithmetic(path: Path) -> None:
    assert list(arithmetic(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ registers // 4 }}", "FloorDiv"),
        ("{{ 2 * tile.n }}", "Mul"),
        ("{% set last = steps - 1 %}", "Sub"),
        ("{{ 'step + %d' % last }}", "Mod"),
        ("{% if loop.index0 + 1 > count %}x{% endif %}", "Add"),
        ("{{ name | replace('_smem', '') }}", "replace"),
        ("{{ -count }}", "Neg"),
    ],
)
def test_arithmetic_is_found(text: str, found: str) -> None:
    assert [name for _, name in arithmetic(text)] == [found]


def test_what_is_laid_out_is_none() -> None:
    assert not list(arithmetic("{{ ' ' * depth }}{{ call(depth + 4, name, ['a'] + more + ['b']) }}"))
