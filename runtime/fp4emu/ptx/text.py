"""PTX text with comments blanked out, line numbers, literals."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right

from fp4emu.errors import Place, PtxError
from fp4emu.instruction import Immediate

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?")
_FLOAT = re.compile(r"-?(?:\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)")
_FLOAT_BITS = re.compile(r"(-?)0([fFdD])([0-9a-fA-F]+)")


class Text:
    """The text of a module. `body` has blanks in place of comments, so that offsets agree with `lines`."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self.body = _COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)

    def line_of(self, offset: int) -> int:
        """One-based line of a character offset."""
        return bisect_right(self._starts, offset)

    def error(self, message: str, offset: int, hint: str = "") -> PtxError:
        line = self.line_of(offset)
        return PtxError(message, hint=hint, place=Place(line=line, text=self.lines[line - 1]))


def integer(text: str) -> int:
    """Value of an integer literal (PTX ISA 4.5.1); ValueError if it is none."""
    body = text.strip().rstrip("U")
    sign, digits = (-1, body[1:]) if body.startswith("-") else (1, body)
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits, 16)
    if digits[:2] in ("0b", "0B"):
        return sign * int(digits, 2)
    return sign * (int(digits, 8) if len(digits) > 1 and digits[0] == "0" else int(digits))


def literal(text: str) -> Immediate | None:
    """An integer or floating-point literal (PTX ISA 4.5), None if the text is neither."""
    if _INTEGER.fullmatch(text):
        return Immediate(integer(text))
    bits = _FLOAT_BITS.fullmatch(text)
    if bits is not None:
        width = 32 if bits[2] in "fF" else 64
        value = int(bits[3], 16)
        return Immediate(value ^ (1 << (width - 1)) if bits[1] else value, width)
    if _FLOAT.fullmatch(text):
        return Immediate(int.from_bytes(struct.pack("<d", float(text)), "little"), 64)
    return Immediate(32) if text == "WARP_SZ" else None
