"""The words and signs of a file, without its comments and blanks.

Comments of other languages are reported and read over here, as are the ends of lines that are none.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fp4cc.diagnostics import Collector, Diagnostic, error
from fp4cc.diagnostics.foreign import CHARACTERS
from fp4cc.source import Source, Span

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\r(?=\n|\Z)) | (?P<comment>\#[^\r\n]*) | (?P<newline>\n|\r(?!\n|\Z)) | (?P<string>"[^"\n]*")
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*) | (?P<number>[0-9][A-Za-z0-9_.]*)
      | (?P<mark>->|//|<=|>=|==|!=|[-+*/%@<>=,:.;()\[\]{}]) | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)

OPENERS = {"(": ")", "[": "]"}
_CLOSERS = frozenset(OPENERS.values())

#: `/* ... */`, or `//` and what follows, unless that is an operand and then more of an expression or its end.
_FOREIGN_COMMENT = re.compile(
    r"""/\*(?:.|\n)*?(?:\*/|\Z)
      | //(?![ \t]*(?:\(|\w+\(|\w+[ \t\r]*(?:$|[-+*/%@<>=!),;{\]\#]|\.T\b|(?:and|or)\b)))[^\n]*""",
    re.VERBOSE | re.MULTILINE,
)
_LONE_RETURN = re.compile(r"\r(?!\n|\Z)")


class Token(NamedTuple):
    """`kind` is a group name of the token pattern, or "end"."""

    kind: str
    text: str
    start: int
    end: int


class Tokens(NamedTuple):
    """The tokens of a file, the last one its end, and its text with comments of other languages as blanks."""

    tokens: list[Token]
    text: str


def scan(source: Source, collector: Collector) -> Tokens:
    """The tokens of a file; what begins a comment elsewhere and a carriage return by itself are reported, once each."""
    text = source.text
    tokens: list[Token] = []
    comments: list[tuple[int, int]] = []
    depth = 0
    skipped = 0  # up to here
    for m in _TOKEN.finditer(text):
        kind = m.lastgroup or "other"
        empty_line = kind == "newline" and tokens and tokens[-1].kind == "newline"
        if kind in ("blank", "comment") or empty_line or m.start() < skipped:
            continue
        depth += (m.group() in OPENERS) - (m.group() in _CLOSERS and depth > 0)
        if not depth and m.group() in ("/", "//") and (comment := _FOREIGN_COMMENT.match(text, m.start())) is not None:
            if not comments:
                collector.report(_foreign_comment(source, comment))
            comments.append(comment.span())
            skipped = comment.end()
            continue
        tokens.append(Token(kind, m.group(), m.start(), m.end()))
    tokens.append(Token("end", "", len(text), len(text)))
    if (lone := _LONE_RETURN.search(text)) is not None:
        place = Span(source, lone.start(), lone.end())
        collector.report(
            error("FP1004", "a carriage return by itself", place, "no end of a line", help=CHARACTERS["\r"])
        )
    return Tokens(tokens, _blanked(text, comments))


def _foreign_comment(source: Source, comment: re.Match[str]) -> Diagnostic:
    found = f"`{comment.group()[:2]}` does not start a comment"
    place = Span(source, comment.start(), comment.start() + 2)
    return error("FP1015", found, place, "an operator here", help="comments start with `#`")


def _blanked(text: str, comments: list[tuple[int, int]]) -> str:
    """The text with blanks for comments."""
    parts: list[str] = []
    end = 0
    for start, stop in comments:
        parts += (text[end:start], re.sub(r"[^\n]", " ", text[start:stop]))
        end = stop
    return "".join((*parts, text[end:]))
