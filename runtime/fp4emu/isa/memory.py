"""ld, st and mov (PTX ISA 9.7.9)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fp4emu import access
from fp4emu.builder import Builder
from fp4emu.instruction import Address, Instruction, Operand, Register, Sink, Symbol, Vector
from fp4emu.isa.convert import resize
from fp4emu.isa.integer import bits_of
from fp4emu.lockstep import Lockstep
from fp4emu.registry import instruction
from fp4emu.representation import Value, join, width_of
from fp4emu.shapes import LANES

TYPES = "type=b8|b16|b32|b64|b128|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64"
SPACES = "[space=const|global|local|param|param::entry|param::func|shared|shared::cta|shared::cluster]"
SEMANTICS = "[sem=weak|relaxed|acquire|release|volatile|mmio] [scope=cta|cluster|gpu|sys]"
CACHE = (
    "[cop=ca|cg|cs|lu|cv|wb|wt] [nc] "
    "[l1=L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate] "
    "[l2=L2::evict_normal|L2::evict_first|L2::evict_last] [hint=L2::cache_hint] "
    "[prefetch=L2::64B|L2::128B|L2::256B] [unified]"
)


def _space(ins: Instruction) -> str:
    name = ins.mod("space")
    if name in ("shared", "shared::cta"):
        return "cta"
    if name == "shared::cluster":
        return "cluster"
    return "global" if name else "generic"


def address_of(e: Builder, operand: Operand, wide: bool) -> tuple[str, str]:
    """(expression, kind) of `[base + offset]`, wrapped to the width of the base."""
    if not isinstance(operand, Address):
        e.fail("an address in brackets is needed here")
    bits = 64 if wide else 32
    if isinstance(operand.base, Register):
        bits = width_of(operand.base.type)
        if bits not in (32, 64):
            e.fail("an address has 32 or 64 bits")
    value = e.value(operand.base, bits)
    text, kind = e.rep(value, "u"), e.kind(value)
    if operand.offset:
        wrap = (1 << bits) - 1
        text = f"(({text} + {operand.offset}) & {wrap})" if kind == "U" else f"({text} + {operand.offset & wrap})"
    return text, kind


def _access(e: Builder, ins: Instruction, operand: Operand, space: str) -> tuple[str, str, str]:
    """(address, kind of the access, mask): uniform only if all warps of the group touch the same place."""
    address, kind = address_of(e, operand, space in ("global", "generic"))
    mask = e.mask()
    if space == "cta" and not e.context.single_cta:
        kind = join(kind, "W")
    elif space in ("cluster", "generic") and not e.context.single_cta:
        kind = join(kind, "W")
    if e.guard is not None and e.kind(e.guard) != "U":
        kind = "V"
    if kind == "W" and (e.context.mask == "D" or mask not in ("None", "LANE0")):
        kind = "V"
    return address, kind, mask


def _items(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vector) else (operand,)


@instruction(
    "ld",
    f"{SEMANTICS} {SPACES} {CACHE} [vec=v2|v4|v8] {TYPES}",
    style="emit",
    operands="1+hint",
    section="9.7.9.8",
    outputs=1,
    any_order=True,
)
def ld(e: Builder, ins: Instruction) -> None:
    items = _items(ins.operands[0])
    if len(items) != int((ins.mod("vec") or "v1")[1:]):
        e.fail("the destination does not have the number of registers that the vector modifier says")
    type_name, space = ins.mod("type"), _space(ins)
    bits, count = bits_of(type_name), len(items)
    source = ins.operands[1]
    if (
        ins.mod("space").startswith("param")
        and isinstance(source, Address)
        and isinstance(source.base, Symbol)
        and source.base.name in e.symbols.params
    ):
        base = e.symbols.params[source.base.name][0] + source.offset
        for index, item in enumerate(items):
            _put(e, item, f"g.grid.param({base + index * bits // 8}, {bits // 8})", "U", type_name)
        return
    address, kind, mask = _access(e, ins, source, space)
    if kind == "U":
        address = e.assign(address)
        for index, item in enumerate(items):
            if isinstance(item, Sink):
                continue
            offset = index * bits // 8
            place = f"{address} + {offset}" if offset else address
            text = f"{e.constant(access.load_uniform)}(g, {space!r}, {place}, {bits // 8})"
            if bits == 128:
                half = f"{e.constant(access.load_uniform)}(g, {space!r}, {address} + {{}}, 8)"
                text = f"({half.format(offset)} | {half.format(offset + 8)} << 64)"
            if e.guard is not None:
                text = f"({text} if {e.rep(e.guard, 'b')} else 0)"
            _put(e, item, text, "U", type_name)
        return
    if e.context.mask == "E" and kind == "W":
        mask = "None"
    call = f"{e.constant(load_vector)}(g, {space!r}, {address}, {bits // 8}, {count}, {mask})"
    if e.guard is not None and e.kind(e.guard) == "U":
        lanes = 1 if kind == "W" else LANES
        call = f"({call} if {e.rep(e.guard, 'b')} else {e.constant(no_vector)}({bits // 8}, {count}, {lanes}))"
    result = e.assign(call)
    for index, item in enumerate(items):
        if not isinstance(item, Sink):
            if bits == 128:
                halves = (
                    Value(kind, 64, {"u": e.assign(f"{result}[{index}][0]")}),
                    Value(kind, 64, {"u": e.assign(f"{result}[{index}][1]")}),
                )
                e.put(item, Value("", 128, {}, halves))
            else:
                _put(e, item, f"{result}[{index}]", kind, type_name)


def _put(e: Builder, item: Operand, text: str, kind: str, type_name: str) -> None:
    """A loaded element into a register that may be wider."""
    if isinstance(item, Sink):
        return
    bits = bits_of(type_name)
    if not isinstance(item, Register):
        e.fail("the destination must be a register")
    out = width_of(item.type)
    if out < bits:
        e.fail(f"register {item.name} is narrower than the {bits} bits loaded")
    text = e.assign(text)
    e.set(item, kind, "u", resize(e, text, kind, bits, out, type_name[0] == "s"), out)


_PARTS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def load_vector(g: Lockstep, space: str, address: Any, size: int, count: int, mask: Any) -> list[Any]:
    """`count` elements of `size` bytes at each address, as a list of arrays (16-byte elements as pairs of uint64
    arrays)."""
    if not isinstance(address, np.ndarray):
        address = np.array([[address]], np.uint64)
    total = size * count
    if total <= 8 and count == 1:
        return [access.load(g, space, address, size, mask)]
    element = np.uint64 if size == 16 else _PARTS[size]
    if total < 16:
        found = access.load(g, space, address, total, mask)
        parts = np.ascontiguousarray(found).view(element).reshape(*found.shape, count)
        return [parts[..., i] for i in range(count)]
    if total & (total - 1):
        raise AssertionError(f"vector of {total} bytes")
    if total > 16:
        access.check(g, *_own(space, address), total, mask, "load")
    chunks = [access.load(g, space, address + np.asarray(16 * i, address.dtype), 16, mask) for i in range(total // 16)]
    per = 16 // np.dtype(element).itemsize
    flat: list[Any] = []
    for chunk in chunks:
        parts = np.ascontiguousarray(chunk).view(element).reshape(*chunk.shape, per)
        flat += [parts[..., i] for i in range(per)]
    return [(flat[2 * i], flat[2 * i + 1]) for i in range(count)] if size == 16 else flat


def _own(space: str, address: Any) -> tuple[str, Any]:
    """A space whose alignment can be checked: generic accesses of 32 bytes are global ones."""
    return ("global" if space == "generic" else space), address


def no_vector(size: int, count: int, lanes: int) -> list[Any]:
    """Zeros in the shape of `load_vector`."""
    if size == 16:
        return [(np.zeros((1, lanes), np.uint64),) * 2] * count
    return [np.zeros((1, lanes), _PARTS[size])] * count


@instruction(
    "st",
    f"{SEMANTICS} {SPACES} {CACHE} [vec=v2|v4|v8] {TYPES}",
    style="emit",
    operands="2+hint",
    section="9.7.9.11",
    quiet=False,
    any_order=True,
)
def st(e: Builder, ins: Instruction) -> None:
    items = _items(ins.operands[1])
    if len(items) != int((ins.mod("vec") or "v1")[1:]):
        e.fail("the source does not have the number of registers that the vector modifier says")
    bits, space = bits_of(ins.mod("type")), _space(ins)
    address, _, mask = _access(e, ins, ins.operands[0], space)
    words: list[str] = []
    for item in items:
        if bits == 128:
            words += [_word(e, half, 64) for half in e.halves(item, 128)]
            continue
        words.append(_word(e, e.value(item, bits), bits))
    address = e.assign(address)
    element = 8 if bits == 128 else bits // 8
    with e.when():
        e.emit(f"{e.constant(store_vector)}(g, {space!r}, {address}, {element}, [{', '.join(words)}], {mask})")


def _word(e: Builder, value: Value, bits: int) -> str:
    text, kind = e.rep(value, "u"), e.kind(value)
    if value.bits < bits:
        e.fail(f"a register of {value.bits} bits where {bits} are stored")
    return e.assign(resize(e, text, kind, value.bits, bits, False))


def store_vector(g: Lockstep, space: str, address: Any, size: int, words: list[Any], mask: Any) -> None:
    """Stores elements of `size` bytes one behind the other at each address."""
    if not isinstance(address, np.ndarray):
        address = np.array([[address]], np.uint64)
    kind = _PARTS[size]
    arrays = [word if isinstance(word, np.ndarray) else np.array([[word]], kind) for word in words]
    if mask is None and g.live is not None:
        mask = g.live
    total = size * len(arrays)
    if len(arrays) == 1:
        access.store(g, space, address, arrays[0], size, mask)
        return
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    table = np.empty((*shape, len(arrays)), kind)
    for index, array in enumerate(arrays):
        table[..., index] = array
    if total <= 16:
        whole = {2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}[total]
        access.store(g, space, address, table.view(whole)[..., 0], total, mask)
        return
    access.check(g, *_own(space, address), total, mask, "store")
    chunks = table.view(np.complex128)
    for index in range(chunks.shape[-1]):
        access.store(g, space, address + np.asarray(16 * index, address.dtype), chunks[..., index], 16, mask)


# --- mov ---


@instruction(
    "mov",
    "type=pred|b16|b32|b64|b128|u16|u32|u64|s16|s32|s64|f32|f64",
    style="emit",
    operands="1",
    section="9.7.9.3",
    outputs=1,
)
def mov(e: Builder, ins: Instruction) -> None:
    """Also packs `{a, b, ...}` into a register and unpacks a register into them."""
    target, source = ins.operands
    name = ins.mod("type")
    if name == "pred":
        value = e.value(source, 1)
        e.put(target, value if value.elect else Value(value.kind, 1, {"b": e.assign(e.rep(value, "b"))}))
        return
    bits = bits_of(name)
    if isinstance(source, Vector):
        value = _packed(e, source.items, bits)
    else:
        value = e.value(source, bits)
    if isinstance(target, Vector):
        _unpack(e, target.items, value)
        return
    if isinstance(target, Register) and width_of(target.type) != value.bits:
        e.fail(f"a register of {width_of(target.type)} bits cannot take {value.bits}")
    if not value.parts and not value.reps:
        e.fail("the source was never written")
    e.put(target, Value(value.kind, value.bits, dict(value.reps), value.parts))


def _packed(e: Builder, items: tuple[Operand, ...], bits: int) -> Value:
    if len(items) == 1:
        value = e.value(items[0], bits)
        if value.bits != bits:
            e.fail(f"elements of {value.bits} bits cannot be packed into {bits} bits each")
        return value
    half = len(items) // 2
    return Value("", bits, {}, (_packed(e, items[:half], bits // 2), _packed(e, items[half:], bits // 2)))


def _unpack(e: Builder, items: tuple[Operand, ...], value: Value) -> None:
    if len(items) == 1:
        if isinstance(items[0], Register) and width_of(items[0].type) != value.bits:
            e.fail(f"a register of {width_of(items[0].type)} bits cannot take an element of {value.bits}")
        if not isinstance(items[0], Sink):
            e.put(items[0], Value(value.kind, value.bits, dict(value.reps), value.parts))
        return
    low, high = e.halves_of(value)
    half = len(items) // 2
    _unpack(e, items[:half], low)
    _unpack(e, items[half:], high)
