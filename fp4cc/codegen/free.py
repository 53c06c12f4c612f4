"""The names that Python text reads without binding them: what it needs from outside."""

from __future__ import annotations

from collections.abc import Iterator
from symtable import SymbolTable, symtable


def free_names(text: str) -> frozenset[str]:
    """The names that the functions (and statements) of a text read and do not bind themselves.

    Raises SyntaxError for a text that is no Python.
    """
    return frozenset(_free(symtable(text, "kernel.py", "exec")))


def _free(table: SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _free(child)
