"""What is wrong with text before it is parsed: brackets, characters, and what belongs to no unit."""

from __future__ import annotations

from collections.abc import Sequence

from fp4cc.diagnostics import Collector, did_you_mean, error, listed
from fp4cc.diagnostics.foreign import CHARACTERS, ITEMS, STATEMENTS
from fp4cc.frontend.tokens import OPENERS, Token
from fp4cc.source import Source, Span

_SHAPES = {
    "kernel": "kernel NAME(M, N, K) { ... }",
    "layout": "layout NAME { ... }",
    "format": "format NAME { ... }",
    "schedule": "schedule KERNEL on TARGET { ... }",
}


class Complaints:
    """The errors of one file, reported to a collector."""

    def __init__(self, source: Source, collector: Collector) -> None:
        self.source = source
        self.collector = collector
        self._before = len(collector)
        self._characters_seen: tuple[int, str] = (0, "")

    @property
    def count(self) -> int:
        """How many there are of this file so far."""
        return len(self.collector) - self._before

    def _span(self, first: Token, last: Token | None = None) -> Span:
        return Span(self.source, first.start, (last or first).end)

    # Size.

    def too_large(self, token: Token, most: int) -> None:
        """The spec has more than `most` tokens, of which this is the first too many."""
        title = f"this spec is larger than {most} words and signs"
        help = "a spec of that size is generated: give each kernel a file of its own"
        self.collector.report(error("FP1014", title, self._span(token), "what starts here is too much", help=help))

    def too_many(self, token: Token, most: int) -> None:
        """Reading ends here, after `most` errors."""
        text = "the rest of the file is not read"
        self.collector.report(error("FP1013", f"{most} errors in this file", self._span(token), text))

    # Brackets.

    def never_closed(self, opener: Token) -> None:
        """`(` or `[` without an end."""
        closer = OPENERS[opener.text]
        title, text = f"`{opener.text}` is never closed", f"no `{closer}` closes it"
        self.collector.report(error("FP1002", title, self._span(opener), text, help=f"add `{closer}`"))

    def body_never_closed(self, keyword: str, opener: Token, following: Token | None) -> None:
        """The `{` of an item without its `}` before the next item, or before the end of the file (None)."""
        self.collector.report(
            error(
                "FP1002",
                "`{` is never closed",
                self._span(opener),
                f"this {keyword} goes on to here without its `}}`",
                also=[] if following is None else [(self._span(following), "the next item")],
                help="add `}` after its last line",
            )
        )

    def does_not_close(self, token: Token, opener: Token) -> None:
        """`]` where `)` was expected, or the other way round."""
        self.collector.report(
            error(
                "FP1003",
                f"`{token.text}` does not close `{opener.text}`",
                self._span(token),
                f"expected `{OPENERS[opener.text]}`",
                also=[(self._span(opener), "opened here")],
            )
        )

    def closes_nothing(self, token: Token) -> None:
        """A closing bracket where none is open."""
        title, help = f"`{token.text}` closes nothing", "remove it, or add the opening bracket"
        self.collector.report(error("FP1003", title, self._span(token), "no bracket is open here", help=help))

    def string_never_closed(self, first: Token, last: Token) -> None:
        """A string that its line does not end."""
        self.collector.report(
            error(
                "FP1005",
                "a string is never closed",
                self._span(first, last),
                'no `"` closes it in this line',
                help='strings end on the line they start on: add `"`',
            )
        )

    # Blocks.

    def no_body(self, keyword: str, start: int, end: int) -> None:
        """The head of an item, from `start` to `end`, without a `{` behind it."""
        self.collector.report(
            error(
                "FP1001",
                f"expected `{{` after the head of this {keyword}",
                Span(self.source, end - 1 if end > start else start, end),
                "the head ends here",
                help=f"a {keyword} is `{_SHAPES[keyword]}`",
            )
        )

    def unexpected_block(self, opener: Token, first: Token) -> None:
        """`{` in the unit that `first` starts, which has no block."""
        braces = "only `kernel`, `layout`, `format` and `schedule` have braces, and they do not nest"
        help = ITEMS["def"] if first.text == "fn" else braces
        self.collector.report(
            error("FP1001", "unexpected `{`", self._span(opener), "no block can start here", help=help)
        )

    # Words and characters.

    def no_item(self, token: Token, items: Sequence[str]) -> None:
        """What stands outside of items starts none."""
        help = ITEMS.get(token.text) or (did_you_mean(token.text, items) if token.kind == "word" else "")
        self.collector.report(
            error(
                "FP1010",
                f"expected {listed(items)}, found {_shown(token)}",
                self._span(token),
                "no item starts like this",
                help=(help, "statements stand inside a `kernel NAME(...) { ... }`"),
            )
        )

    def foreign_statement(self, first: Token) -> None:
        """A statement that starts with a word of another language."""
        title, help = f"there is no `{first.text}`", STATEMENTS[first.text]
        self.collector.report(error("FP1015", title, self._span(first), "of another language", help=help))

    def characters(self, first: Token, last: Token) -> None:
        """A run of characters that the language does not have. Of one line, each help is given once."""
        place = self._span(first, last)
        help = CHARACTERS.get(first.text, "the language is written in ASCII; other characters may stand in comments")
        name = f"`{place.text}`" if place.text.isprintable() and len(place.text) < 20 else f"U+{ord(first.text):04X}"
        line = self.source.line_column(first.start)[0]
        if self._characters_seen != (line, help):
            self.collector.report(error("FP1004", f"unexpected {name}", place, "not part of the language", help=help))
        self._characters_seen = (line, help)


def _shown(token: Token) -> str:
    return f"`{token.text}`" if len(token.text) <= 40 else f"`{token.text[:40]}...`"
