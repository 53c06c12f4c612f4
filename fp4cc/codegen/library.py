"""Python functions as text: a kernel file gets those it uses, and those that they use, in their own order.

They are helpers that only make sense in an emitted kernel (files of templates/common) and the language's functions
(`fp4num.functions`), which the reference runs as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import fp4num.functions
from fp4cc.codegen.free import free_names
from fp4cc.resources import templates_dir

_HELPERS = (
    "arithmetic", "memory", "quantize", "reduce", "random", "barriers", "load", "hadamard", "scales", "dequantize",
    "hopper", "promoted", "groups", "weights", "fast_weights", "rows", "split", "gather", "listed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Definition:
    """A top-level function or constant: its text, and the names it mentions, those of the library apart (`uses`)."""

    name: str
    text: str
    uses: frozenset[str]
    mentions: frozenset[str]
    constant: bool


@dataclass(frozen=True, slots=True)
class Library:
    """Definitions by name, in the order in which an emitted file has them."""

    definitions: dict[str, Definition]

    def closure(self, names: Iterable[str]) -> list[Definition]:
        """The named definitions and all they use. KeyError for a name that is not here."""
        wanted: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending.extend(self.definitions[name].uses)
        return [definition for name, definition in self.definitions.items() if name in wanted]

    def text(self, names: Iterable[str]) -> str:
        """The text of the closure."""
        return text_of(self.closure(names))

    def names(self) -> frozenset[str]:
        """Every name it defines."""
        return frozenset(self.definitions)


def text_of(definitions: Iterable[Definition]) -> str:
    """Definitions as text: constants on adjacent lines, two blank lines around functions."""
    parts: list[str] = []
    before: Definition | None = None
    for definition in definitions:
        if before is not None:
            parts.append("\n" if before.constant and definition.constant else "\n\n\n")
        parts.append(definition.text)
        before = definition
    return "".join(parts)


#: Definitions of a target, which replace those of the same name: it lacks an instruction, or has a better one.
SUBSTITUTES = {"sm_90a": ("sm90/convert.py", "sm90/decode.py"), "sm_100a": ("sm100/packed.py", "sm100/dequantize.py")}
#: Targets with instructions for two f32 at once, and the helpers of single values that then take `Two` by halves.
PACKED_TARGETS = ("sm_100a",)
_BY_HALVES = (
    "lt", "le", "gt", "ge", "eq", "ne", "isnan", "both", "either", "is_not", "where", "bits", "from_bits",
)  # fmt: skip


def helper_sources() -> list[str]:
    """The files of the library that all targets have. A name is defined once in them."""
    sources = [(templates_dir() / "common" / f"{name}.py").read_text(encoding="utf-8") for name in _HELPERS]
    functions = Path(fp4num.functions.__file__).read_text(encoding="utf-8")
    sources.insert(1, _without_annotations(functions))
    return sources


def substitute_sources(target: str) -> list[str]:
    """The files of a target. What they define again is called like what it replaces."""
    return [(templates_dir() / name).read_text(encoding="utf-8") for name in SUBSTITUTES.get(target, ())]


@cache
def library(target: str = "sm_100a") -> Library:
    """The helpers of emitted kernels of a target."""
    substitutes = substitute_sources(target)
    # First for the order of definitions, which decorators need, and last because the last definition counts.
    sources = [*substitutes, *helper_sources(), *substitutes]
    found: dict[str, tuple[str, ast.stmt]] = {}
    for source in sources:
        for statement in ast.parse(source).body:
            name = _defined(statement)
            if name is not None:
                found[name] = (_segment(source, statement), statement)
    definitions = {name: _definition(name, text, node, found) for name, (text, node) in found.items()}
    if target in PACKED_TARGETS:
        definitions.update((name, _by_halves(definitions[name])) for name in _BY_HALVES)
    return Library(definitions)


def _by_halves(definition: Definition) -> Definition:
    return replace(definition, text=f"@each\n{definition.text}", uses=definition.uses | {"each"})


def _defined(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return statement.name
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


def _segment(source: str, statement: ast.stmt) -> str:
    """Whole lines, decorators and end-of-line comments included."""
    first = statement.lineno
    if isinstance(statement, ast.FunctionDef) and statement.decorator_list:
        first = statement.decorator_list[0].lineno
    return "\n".join(source.splitlines()[first - 1 : statement.end_lineno])


def _definition(name: str, text: str, node: ast.stmt, found: dict[str, tuple[str, ast.stmt]]) -> Definition:
    mentioned = free_names(text)
    return Definition(name, text, (mentioned & found.keys()) - {name}, mentioned, isinstance(node, ast.Assign))


def _without_annotations(source: str) -> str:
    return re.sub(r": Any\b(?=[,)])", "", source).replace(" -> Any:", ":")
