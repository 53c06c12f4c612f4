"""Cut a file into units: heads of items and the statements or fields in their braces.

Each unit is parsed on its own, so that one mistake hides no other. Here live the newline rule and bracket matching;
what is said of text that breaks them is `fp4cc.frontend.complaints`. The language's characters
(`fp4cc.frontend.tokens`) are checked here too: what reaches the parser is made of known tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fp4cc.diagnostics import Collector
from fp4cc.diagnostics.foreign import STATEMENTS
from fp4cc.frontend.complaints import Complaints
from fp4cc.frontend.tokens import OPENERS, Token, scan
from fp4cc.source import Source

Keyword = Literal["use", "fn", "kernel", "layout", "format", "schedule"]

BLOCKS = ("kernel", "layout", "format", "schedule")
ITEMS = ("use", "fn", *BLOCKS)

#: After so many errors of bracketing and of stray text in one file the rest of it is not read.
MAX_ERRORS = 100

#: A spec of more tokens than this, with all the files it uses, is not read (FP1014): a few seconds' work.
MAX_TOKENS = 1 << 15

#: A unit that goes on over lines for more tokens than this has a bracket that is never closed.
MAX_UNIT = 4096

_NEVER_LAST = frozenset(("and", "or", "not"))
_CONTINUES = frozenset(("+", "-", "*", "/", "//", "%", "@", "<", ">", "<=", ">=", "==", "!=", "and", "or"))
_HEAD_GOES_ON = frozenset(("where", "when", "on", "extends", "{"))


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of text to parse on its own; `sound` is False if an error in it was reported already."""

    start: int
    end: int
    sound: bool = True


@dataclass(slots=True)
class RawItem:
    """An item before parsing: its first word, its head, and the units between its braces."""

    keyword: Keyword
    head: Unit
    body: list[Unit] = field(default_factory=list[Unit])
    end: int = 0


class Cut(NamedTuple):
    """A file in units. `text` is its text with comments of other languages as blanks."""

    items: list[RawItem]
    strays: list[Token]
    tokens: int
    text: str


def split(source: Source, collector: Collector, most: int = MAX_TOKENS) -> Cut:
    """The items of a file, what stands outside of them, and the number of its tokens.

    Errors of bracketing, of characters and of stray text are reported; what is sound is returned. Of a file with more
    than `most` tokens nothing is.
    """
    splitter = _Splitter(source, collector)
    count = len(splitter.tokens) - 1
    if count > most:
        token = splitter.tokens[max(most, 0)]
        if most < 0:  # a file before this one was too much already, and that was said
            return Cut([], [], count, source.text)
        splitter.wrong.too_large(token, MAX_TOKENS)
        return Cut([], [], count, source.text)
    return Cut(splitter.run(), splitter.strays, count, splitter.text)


class _Splitter:
    def __init__(self, source: Source, collector: Collector) -> None:
        self.wrong = Complaints(source, collector)
        self.tokens, self.text = scan(source, collector)
        self.at = 0
        self.strays: list[Token] = []

    def run(self) -> list[RawItem]:
        items: list[RawItem] = []
        while (token := self.tokens[self.at]).kind != "end" and not self.hopeless(token):
            if token.kind == "newline" or token.text == ";":
                self.at += 1
            elif token.text in ITEMS:
                items.append(self.item(token))
            else:
                self.stray(token)
        return items

    def hopeless(self, token: Token) -> bool:
        """Whether there are so many errors that the rest of the file is not read: more would tell nobody anything."""
        if self.wrong.count < MAX_ERRORS:
            return False
        self.wrong.too_many(token, MAX_ERRORS)
        self.at = len(self.tokens) - 1
        return True

    # Items.

    def item(self, first: Token) -> RawItem:
        keyword: Keyword = first.text  # type: ignore[assignment]  # `run` looked it up in ITEMS
        head = self.unit(block=False, head=keyword in BLOCKS)
        item = RawItem(keyword, head, end=head.end)
        if keyword not in BLOCKS:
            return item
        opener = self.tokens[self.at]
        if opener.text != "{":
            if head.sound:
                self.wrong.no_body(keyword, head.start, head.end)
            item.head = Unit(head.start, head.end, sound=False)
            # What follows was to be its body (as after `kernel k(M):`): no mistakes of its own.
            while self.tokens[self.at].kind != "end" and not self.looks_like_item():
                self.strays.append(self.tokens[self.at])
                self.at += 1
            return item
        self.at += 1
        self.body(item, opener)
        return item

    def body(self, item: RawItem, opener: Token) -> None:
        while True:
            token = self.tokens[self.at]
            if token.kind == "newline" or token.text == ";":
                self.at += 1
            elif token.text == "}":
                self.at += 1
                item.end = token.end
                return
            elif self.hopeless(token):
                item.end = token.start
                return
            elif token.kind == "end" or self.looks_like_item():
                self.wrong.body_never_closed(item.keyword, opener, None if token.kind == "end" else token)
                item.end = token.start
                return
            elif item.keyword == "kernel" and self.is_foreign(token):
                item.body.append(self.foreign_statement(token))
            else:
                item.body.append(self.unit(block=True, head=False))

    def is_foreign(self, first: Token) -> bool:
        """Whether a statement starts here with a word of another language that is no name of this one."""
        return first.text in STATEMENTS and self.tokens[self.at + 1].text not in ("=", ",", ":")

    def foreign_statement(self, first: Token) -> Unit:
        """Report a statement of another language, and read over it and its block, if it has one."""
        self.wrong.foreign_statement(first)
        depth = 0
        while (token := self.tokens[self.at]).kind != "end" and not self.looks_like_item():
            if depth == 0 and (token.text == "}" or token.kind == "newline"):
                break
            depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}") and depth > 0)
            self.at += 1
        return Unit(first.start, self.tokens[self.at].start, sound=False)

    def looks_like_item(self) -> bool:
        """Whether an item's head stands at the start of a line here: `kernel NAME (`, `format NAME {` and the like."""
        first = self.tokens[self.at]
        if first.text not in ITEMS or (self.at and self.tokens[self.at - 1].kind != "newline"):
            return False
        second, third = (self.tokens[min(self.at + i, len(self.tokens) - 1)] for i in (1, 2))
        if first.text == "use":
            return second.kind == "string"
        wanted = {"kernel": "(", "fn": "(", "layout": "{", "format": "{", "schedule": "on"}
        return second.kind == "word" and (third.text == wanted[first.text] or third.text == "extends")

    def unit(self, *, block: bool, head: bool) -> Unit:
        """Scan one unit from here. Stops before the newline, `;`, `{` or `}` that ends it."""
        first = self.at
        start = self.tokens[self.at].start
        end = start
        sound = True
        open_brackets: list[tuple[Token, int]] = []
        last = ""
        while True:
            token = self.tokens[self.at]
            if token.kind == "newline":
                if not open_brackets and self.line_ends(last, head):
                    break
                self.at += 1
                if self.at - first > MAX_UNIT:
                    break
                continue
            if token.kind == "end" or token.text in ("{", "}", ";"):
                if token.text == "{" and not head and not open_brackets:
                    sound = self.stray_block(token, sound, self.tokens[first])
                    end = self.tokens[self.at - 1].end
                    continue
                if token.text == "}" and not block and not open_brackets:
                    self.wrong.closes_nothing(token)
                    self.at += 1
                    sound = False
                    continue
                break
            if token.kind == "other":
                sound = False
                self.foreign(token)
            elif token.text in OPENERS:
                open_brackets.append((token, self.at))
            elif token.text in (")", "]"):
                if open_brackets and OPENERS[open_brackets[-1][0].text] == token.text:
                    open_brackets.pop()
                elif sound:  # one error of bracketing a unit: those after it mostly follow from it
                    sound = self.mismatched(token, open_brackets)
            last = token.text if token.kind in ("word", "mark") else "1"
            end = token.end
            self.at += 1
        if open_brackets:
            opener, index = open_brackets[0]
            if sound:
                self.wrong.never_closed(opener)
            sound = False
            end = self.give_up_line(index)
        return Unit(start, end, sound)

    def line_ends(self, last: str, head: bool) -> bool:
        """Go's rule and ours: a newline ends a unit unless the last token or the next line says that it goes on."""
        following = self.tokens[self.at + 1]
        if following.text in _CONTINUES or (head and following.text in _HEAD_GOES_ON):
            return False
        return bool(last) and (last[-1] in ")]}1" or (last[0].isalpha() or last[0] == "_") and last not in _NEVER_LAST)

    def give_up_line(self, index: int) -> int:
        """After an unclosed bracket: scan again from the end of the line it stands on. Returns where that is."""
        while self.tokens[index].kind not in ("newline", "end") and self.tokens[index].text not in ("{", "}"):
            index += 1
        self.at = index
        return self.tokens[index].start

    # What belongs nowhere.

    def stray(self, token: Token) -> None:
        """Text between items: say so once for each run of it, and go on at the next item."""
        if token.text in ("}", ")", "]"):
            self.wrong.closes_nothing(token)
            self.at += 1
            return
        if token.kind == "other":
            self.foreign(token)
        else:
            self.wrong.no_item(token, ITEMS)
        depth = 0
        self.strays.append(token)
        self.at += 1
        while (token := self.tokens[self.at]).kind != "end":
            if depth == 0 and self.tokens[self.at - 1].kind == "newline" and token.text in ITEMS:
                return
            if self.looks_like_item():
                return
            depth += (token.text == "{") - (token.text == "}" and depth > 0)
            self.strays.append(token)
            self.at += 1

    def stray_block(self, opener: Token, sound: bool, first: Token) -> bool:
        """Read over a block where none can be, in the unit that `first` starts."""
        if sound:
            self.wrong.unexpected_block(opener, first)
        depth = 0
        while (token := self.tokens[self.at]).kind != "end" and not (depth and self.looks_like_item()):
            depth += (token.text == "{") - (token.text == "}")
            self.at += 1
            if depth == 0:
                break
        return False

    def mismatched(self, token: Token, open_brackets: list[tuple[Token, int]]) -> bool:
        if open_brackets:
            self.wrong.does_not_close(token, open_brackets.pop()[0])
        else:
            self.wrong.closes_nothing(token)
        return False

    def foreign(self, token: Token) -> None:
        """A character outside the language. A run of them in one line is one error."""
        if token.text == '"':
            while self.tokens[self.at + 1].kind not in ("newline", "end"):
                self.at += 1
            self.wrong.string_never_closed(token, self.tokens[self.at])
            return
        if self.at and (previous := self.tokens[self.at - 1]).kind == "other" and previous.end == token.start:
            return
        end = self.at
        while self.tokens[end + 1].kind == "other" and self.tokens[end + 1].start == self.tokens[end].end:
            end += 1
        self.wrong.characters(token, self.tokens[end])
