"""The names of a kernel file: whose they are, and how none of them comes to mean two things.

A file has names of its own (of the templates, the library and Python) and names that are made up for it: the user's,
those derived from them, those of intermediate values. While its text is made, a mark (`fp4cc.marks`) stands for each of
the latter. The text then says itself which names are its own and where each name occurs, and every mark gets the name
that it was made for, or the first variation of it with which nothing that stands in the same function, or at module
level, is called alike. Names of Python and of the DSL's own making are kept free as well.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from fp4cc.codegen.scopes import MODULE, replaced, scopes
from fp4cc.marks import mark, marks_in, spelled

_PYTHON = frozenset({*dir(builtins), *keyword.kwlist, *keyword.softkwlist})
#: What the DSL makes of a kernel file has names that end in a number (`loop_body_3`), hidden ones, and these.
_DSL = re.compile(r"_.*|.*_\d+|(yield_)?self|cls")
#: How often a text is made anew because names became longer than their marks were. It only matters for line breaks.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class _Symbol:
    """What a mark stands for: the name that is wanted, and what is put after it where that is taken."""

    wanted: str
    suffix: str

    def variations(self) -> Iterator[str]:
        """The names that it can have, the best one first."""
        yield self.wanted
        # Those that follow are out of the DSL's reach, which a number alone would not change.
        stem = self.wanted.strip("_")
        stem = f"{stem if stem[:1].isalpha() else f'name{stem}'}{self.suffix}"
        stem = f"{stem}_value" if _DSL.fullmatch(stem) else stem
        if stem != self.wanted:
            yield stem
        for number in count(2):
            yield f"{stem}{number}"


class Names:
    """Hands out marks for the names of one text.

    Args:
        given: the names of marks that are in what is printed already, by their numbers.
        lengths: how long names turned out to be when the same text was made before, by the numbers of their marks.
    """

    def __init__(self, given: tuple[str, ...] = (), lengths: tuple[int, ...] = ()) -> None:
        self._symbols = [_Symbol(name, "_arg") for name in given]
        self._lengths = lengths

    def new(self, wanted: str, suffix: str = "") -> str:
        """A mark for a new name: `wanted` if it is free, else with the suffix, else with a number."""
        number = len(self._symbols)
        self._symbols.append(_Symbol(spelled(wanted, self.wanted), suffix))
        return self._mark(number)

    def wanted(self, number: int) -> str:
        """The name that a mark was made for."""
        return self._symbols[number].wanted

    def width(self, text: str) -> int:
        """The letters of a text if every name were the one that is wanted."""
        return len(spelled(text, self.wanted))

    def given(self, number: int) -> str:
        """The mark of a name that was given, as long as that name will be."""
        return self._mark(number)

    def chosen(self, text: str) -> tuple[str, ...]:
        """The names of all marks, by number."""
        choice = _Choice(text)
        for number, symbol in enumerate(self._symbols):
            choice.choose(number, symbol)
        return tuple(choice.names[number] for number in range(len(self._symbols)))

    def _mark(self, number: int) -> str:
        known = number < len(self._lengths)
        return mark(number, self._lengths[number] if known else len(self._symbols[number].wanted))


def named(given: tuple[str, ...], make: Callable[[Names], str]) -> str:
    """The text that `make` makes of marks, with names in their place.

    `given` are the names of marks that `make` knows of, by their numbers.
    """
    names = Names(given)
    text = make(names)
    chosen = names.chosen(text)
    for _ in range(_ROUNDS):
        lengths = tuple(map(len, chosen))
        longer = Names(given, lengths)
        if all(len(names.wanted(number)) == length for number, length in enumerate(lengths)):
            break
        names, text = longer, make(longer)
        chosen = names.chosen(text)
        if tuple(map(len, chosen)) == lengths:
            break
    return replaced(
        text,
        lambda name: spelled(name, chosen.__getitem__),
        lambda prose: spelled(prose, names.wanted),
    )


class _Choice:
    """Names for marks, one after the other, so that no two words of a scope are spelled alike."""

    def __init__(self, text: str) -> None:
        self.names: dict[int, str] = {}
        self._words = {word: frozenset(found) for word, found in scopes(text).items()}
        self._taken: dict[int, set[str]] = {}
        self._of_mark: dict[int, list[str]] = {}
        for word, found in self._words.items():
            numbers = set(marks_in(word))
            for number in numbers:
                self._of_mark.setdefault(number, []).append(word)
            if not numbers:
                self._take(word, found)

    def choose(self, number: int, symbol: _Symbol) -> None:
        """Find the name of a mark."""
        words: dict[str, str] = {}
        for name in symbol.variations():
            self.names[number] = name
            words = {word: new for word in self._of_mark.get(number, ()) if (new := self._spelled(word)) is not None}
            if all(self._free(new, self._words[word]) for word, new in words.items()):
                break
        for word, new in words.items():
            self._take(new, self._words[word])

    def _spelled(self, word: str) -> str | None:
        """A word with its names, once all of them are known."""
        if any(number not in self.names for number in marks_in(word)):
            return None
        return spelled(word, self.names.__getitem__)

    def _free(self, name: str, where: frozenset[int]) -> bool:
        if name in _PYTHON or _DSL.fullmatch(name) or name in self._taken.get(MODULE, ()):
            return False
        if MODULE in where:
            return not any(name in taken for taken in self._taken.values())
        return not any(name in self._taken.get(scope, ()) for scope in where)

    def _take(self, name: str, where: frozenset[int]) -> None:
        for scope in where:
            self._taken.setdefault(scope, set()).add(name)
