"""Where the grammar, the prelude, the templates and the recipes are.

In a wheel they lie inside the package (`fp4cc/_data`); in a checkout, an editable install or an unpacked sdist they
are the top-level folders `grammar/` and `templates/`, and `examples/recipes/`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def _folder(name: str, within: str = "") -> Path:
    installed = _PACKAGE / "_data" / name
    if installed.is_dir():
        return installed
    checkout = _PACKAGE.parent / within / name
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError(f"fp4cc was installed without its {name}/ folder: looked in {installed} and {checkout}")


def grammar_dir() -> Path:
    """The folder of `fp4.lark` and `prelude.fp4`."""
    return _folder("grammar")


def templates_dir() -> Path:
    """The folder of the Jinja templates: one folder a target."""
    return _folder("templates")


def grammar_text(name: str) -> str:
    """The text of one file of the grammar folder, such as `fp4.lark`."""
    return (grammar_dir() / name).read_text(encoding="utf-8")


def recipes_dir() -> Path:
    """The folder of the recipes: specs of several kernels each."""
    return _folder("recipes", "examples")
