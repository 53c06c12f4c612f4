"""Variable and parameter declarations with their initialisers (PTX ISA 5.4)."""

from __future__ import annotations

import re
import struct

from fp4emu.ptx.text import Text, literal
from fp4emu.ptx.tree import TYPE_BYTES, Variable

_HEAD = re.compile(r"\s*\.(global|const|shared|local|param|reg)\b")
_ALIGN = re.compile(r"\s*\.align\s+(\d+)")
_ATTRIBUTE = re.compile(r"\s*\.attribute\s*\([^)]*\)")
_POINTER = re.compile(r"\s*\.ptr(?:\s*\.(?:global|shared|const|local))?(?:\s*\.align\s+\d+)?")
_VECTOR = re.compile(r"\s*\.v(2|4)\b")
_TYPE = re.compile(r"\s*\.(\w+)")
_DECLARATOR = re.compile(r"\s*([A-Za-z_$%][\w$]*)((?:\s*\[[^\]]*\])*)\s*")


def parse_variable(source: Text, text: str, offset: int, extern: bool) -> list[Variable]:
    """The variables of one declaration statement; `offset` is where `text` starts in the source."""
    head = _HEAD.match(text)
    if head is None:
        raise source.error("a variable declaration starts with its state space", offset)
    declaration, equals, initial = text.rstrip().rstrip(";").partition("=")
    alignment, width, position = _type(source, declaration, head.end(), offset)
    result: list[Variable] = []
    for item in declaration[position:].split(","):
        found = _DECLARATOR.fullmatch(item)
        if found is None:
            raise source.error(f"the declaration of {item.strip()!r} is not understood", offset)
        count, dynamic = _count(found[2])
        size = count * width
        data, relocations = None, ()
        if equals:
            data, relocations, size = _initial(source, initial, width, size, dynamic, offset)
            dynamic = False
        result.append(
            Variable(found[1], head[1], alignment or width, 0 if dynamic else size, extern, data, relocations)
        )
    return result


def parse_parameter(source: Text, text: str, offset: int) -> list[Variable]:
    """The formal parameters of a function."""
    result: list[Variable] = []
    for item in text.split(","):
        if not item.strip():
            continue
        head = _HEAD.match(item)
        if head is None:
            raise source.error(f"the parameter {item.strip()!r} has no state space", offset)
        alignment, width, position = _type(source, item, head.end(), offset)
        found = _DECLARATOR.fullmatch(item[position:])
        if found is None:
            raise source.error(f"the parameter {item.strip()!r} is not understood", offset)
        count, _ = _count(found[2])
        result.append(Variable(found[1], head[1], alignment or width, count * width))
    return result


def _type(source: Text, text: str, position: int, offset: int) -> tuple[int, int, int]:
    """(alignment or 0, bytes of an element, offset behind) of `.align 8 .v2 .b32 .ptr ...` in any usual order."""
    alignment = width = 0
    lanes = 1
    while True:
        if found := _ALIGN.match(text, position):
            alignment = int(found[1])
        elif found := _ATTRIBUTE.match(text, position):
            pass
        elif found := _POINTER.match(text, position):
            pass
        elif found := _VECTOR.match(text, position):
            lanes = int(found[1])
        elif found := _TYPE.match(text, position):
            if found[1] not in TYPE_BYTES:
                raise source.error(f"unknown type .{found[1]}", offset)
            width = TYPE_BYTES[found[1]]
        else:
            break
        position = found.end()
    if not width:
        raise source.error("the declaration names no type", offset)
    return alignment, width * lanes, position


def _count(dimensions: str) -> tuple[int, bool]:
    """Elements of `[2][4]`, and whether an extent is open (`[]`)."""
    count, dynamic = 1, False
    for extent in re.findall(r"\[([^\]]*)\]", dimensions):
        if extent.strip():
            count *= int(extent, 0)
        else:
            dynamic = True
    return count, dynamic


def _initial(
    source: Text, text: str, width: int, size: int, dynamic: bool, offset: int
) -> tuple[bytes, tuple[tuple[int, str, int, int], ...], int]:
    items = [item.strip() for item in text.replace("{", " ").replace("}", " ").split(",") if item.strip()]
    data = bytearray()
    relocations: list[tuple[int, str, int, int]] = []
    for item in items:
        value = literal(item)
        if value is None:
            found = re.fullmatch(r"(?:generic\s*\(\s*([\w$]+)\s*\)|([\w$]+))\s*(?:\+\s*(\d+))?", item)
            if found is None:
                raise source.error(f"the initialiser {item!r} is not understood", offset)
            relocations.append((len(data), found[1] or found[2], int(found[3] or 0), width))
            data += bytes(width)
        elif value.float_bits == 64 and width == 4:
            data += struct.pack("<f", struct.unpack("<d", value.value.to_bytes(8, "little"))[0])
        else:
            data += (value.value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    total = len(data) if dynamic else max(size, len(data))
    return bytes(data).ljust(total, b"\0"), tuple(relocations), total
