"""Registers, stack and shared memory of a cubin's kernels, from its ELF attributes.

The `.nv.info` section lists attributes as (format, attribute, size, payload); `nvdisasm` and `cuobjdump
--dump-resource-usage` print the same ones by name. Nothing is disassembled.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FORMAT_HAS_PAYLOAD = 0x04  # EIFMT_SVAL: a 16-bit size and that many bytes
_ATTR_MIN_STACK_SIZE = 0x12  # EIATTR_MIN_STACK_SIZE: symbol index, bytes
_ATTR_REGCOUNT = 0x2F  # EIATTR_REGCOUNT: symbol index, registers


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """Of one kernel: registers and stack bytes a thread (stack 0: nothing spilled), static shared memory bytes."""

    registers: int
    stack: int
    static_shared: int
    code_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    offset: int
    size: int
    link: int


def _sections(cubin: bytes) -> list[_Section]:
    if cubin[:4] != b"\x7fELF" or cubin[4] != 2:
        raise ValueError("not a 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    raw = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + i * entry_size) for i in range(count)]
    names = raw[names_index][4]
    return [
        _Section(_string(cubin, names + name), offset, size, link)
        for name, _type, _flags, _addr, offset, size, link, _info, _align, _entsize in raw
    ]


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("utf-8")


def _symbol_names(cubin: bytes, sections: list[_Section]) -> list[str]:
    table = next(s for s in sections if s.name == ".symtab")
    strings = sections[table.link].offset
    return [
        _string(cubin, strings + struct.unpack_from("<I", cubin, table.offset + i * 24)[0])
        for i in range(table.size // 24)
    ]


def resource_usage(cubin: bytes) -> dict[str, ResourceUsage]:
    """Resource usage by kernel name. Raises ValueError for bytes that are not a cubin."""
    try:
        return _read(cubin)
    except (struct.error, StopIteration, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"not a readable cubin: {error}") from error


def _read(cubin: bytes) -> dict[str, ResourceUsage]:
    sections = _sections(cubin)
    sizes = {s.name: s.size for s in sections}
    symbols = _symbol_names(cubin, sections)
    found: dict[str, dict[int, int]] = {}
    info = next(s for s in sections if s.name == ".nv.info")
    at, end = info.offset, info.offset + info.size
    while at < end:
        form, attribute, size = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form != _FORMAT_HAS_PAYLOAD:
            continue  # the value is in the size field
        if attribute in (_ATTR_REGCOUNT, _ATTR_MIN_STACK_SIZE) and size == 8:
            symbol, value = struct.unpack_from("<II", cubin, at)
            found.setdefault(symbols[symbol], {})[attribute] = value
        at += size
    return {
        name: ResourceUsage(
            registers=values[_ATTR_REGCOUNT],
            stack=values.get(_ATTR_MIN_STACK_SIZE, 0),
            static_shared=sizes.get(f".nv.shared.{name}", 0),
            code_bytes=sizes[f".text.{name}"],
        )
        for name, values in found.items()
        if _ATTR_REGCOUNT in values and f".text.{name}" in sizes
    }
