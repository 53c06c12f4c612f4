"""Which names occur where in the text of a kernel file, and what of it is comment or string.

A file is read by a pattern, not by `ast`, because each build does it: a test compares the two on every example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

#: The number of the scope of what stands outside functions; each function and class at module level has its own.
MODULE = 0

_QUOTED = "|".join(
    rf"{quotes}(?:[^\\]|\\.)*?{quotes}" if len(quotes) == 3 else rf"{quotes}(?:[^\\\n]|\\.)*?{quotes}"
    for quotes in ('"""', "'''", '"', "'")
)
#: Comments and strings; or a name, with the dot before it if it is an attribute.
_WORD = re.compile(rf"(?P<other>#[^\n]*|(?:{_QUOTED}))|(?P<name>\.?\b[^\W\d]\w*\b(?![\"']))", re.DOTALL)


def scopes(text: str) -> dict[str, set[int]]:
    """Every name that a file binds or reads, and the scopes in which it does.

    Attributes are none: they belong to what they are an attribute of.
    """
    found: dict[str, set[int]] = {}
    for name, scope in _names(text):
        found.setdefault(name, set()).add(scope)
    return found


def replaced(text: str, names: Callable[[str], str], others: Callable[[str], str]) -> str:
    """The text with `names(name)` for each name, attributes too, and `others(part)` for each comment and string."""
    return _WORD.sub(lambda word: (names if word["name"] else others)(word[0]), text)


def _names(text: str) -> Iterator[tuple[str, int]]:
    scope, last, line_end, defines = MODULE, MODULE, 0, False
    for word in _WORD.finditer(text):
        start = word.start()
        if start >= line_end:  # the first word of a line: does a statement of the module start here?
            first = text.rfind("\n", 0, start) + 1
            line_end = text.find("\n", start)
            line_end = len(text) if line_end < 0 else line_end
            if not text[first].isspace() and text[first] not in ")#":
                scope = MODULE
        name = word["name"]
        if name is None:
            line_end = max(line_end, word.end())  # a string of several lines
        elif defines:
            scope, last, defines = last + 1, last + 1, False
            yield name, MODULE
            yield name, scope
        elif not name.startswith("."):
            defines = scope == MODULE and name in ("def", "class")
            yield name, scope
