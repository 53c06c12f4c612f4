"""How a block calls the handlers of styles "lane", "thread", "warp" and "group" (`fp4emu.registry`): their arguments,
and what becomes of their results."""

from __future__ import annotations

from fp4emu import execute
from fp4emu.builder import Builder
from fp4emu.instruction import (
    Address,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Vector,
    registers_of,
)
from fp4emu.representation import Value, join, width_of


def write_lane_call(builder: Builder, ins: Instruction) -> None:
    """A pure function of lane arrays: `handler(instruction, *arrays)` of unsigned arrays gives an unsigned array (or
    several)."""
    arguments: list[str] = []
    kinds: list[str] = []
    for operand in ins.operands[ins.rule.outputs :]:
        for item in operand.items if isinstance(operand, Vector) else (operand,):
            text, kind = _array(builder, ins, item)
            arguments.append(text)
            kinds.append(kind)
    kind = join(*kinds)
    handler, instruction = builder.constant(ins.rule.handler), builder.constant(ins)
    result = builder.assign(f"{handler}({', '.join([instruction, *arguments])})")
    _take(builder, ins, result, kind)


def _array(builder: Builder, ins: Instruction, operand: Operand) -> tuple[str, str]:
    value = builder.value(operand, _immediate_bits(ins, operand))
    kind = builder.kind(value)
    if value.bits == 1:
        text = builder.rep(value, "b")
        return (f"np.array([[{text}]])" if kind == "U" else text), kind
    text = builder.rep(value, "u")
    if kind == "U":
        dtype = {8: "U1", 16: "U2", 32: "U4", 64: "U8"}[value.bits]
        return f"vector({text}, {dtype})", kind
    return text, kind


def _immediate_bits(ins: Instruction, operand: Operand) -> int:
    """The width an immediate takes: the widest register's, else 32. A float literal has at least 32 bits."""
    widths = [width_of(r.type) for o in ins.operands for r in registers_of(o) if r.type != "pred"]
    widest = max(widths, default=32)
    return max(widest, 32) if isinstance(operand, Immediate) and operand.float_bits else widest


def _take(builder: Builder, ins: Instruction, result: str, kind: str) -> None:
    """Assigns a helper's result arrays to the destinations."""
    outputs = ins.operands[: ins.rule.outputs]
    flat: list[tuple[Operand, str]] = []
    if len(outputs) == 1:
        flat.append((outputs[0], result))
    else:
        flat += [(operand, f"{result}[{i}]") for i, operand in enumerate(outputs)]
    index = 0
    while index < len(flat):
        operand, text = flat[index]
        index += 1
        if isinstance(operand, Sink):
            continue
        if isinstance(operand, Pair):
            flat[index:index] = [(operand.first, f"{text}[0]"), (operand.second, f"{text}[1]")]
            continue
        if isinstance(operand, Vector):
            flat[index:index] = [(item, f"{text}[{i}]") for i, item in enumerate(operand.items)]
            continue
        if not isinstance(operand, Register):
            builder.fail("the destination must be a register")
        bits = width_of(operand.type)
        if kind == "U":
            text = f"bool({text}[0, 0])" if bits == 1 else f"int({text}[0, 0])"
        builder.put(operand, Value(kind, bits, {"b" if bits == 1 else "u": builder.assign(text)}))


def write_call(builder: Builder, ins: Instruction) -> None:
    """A thread, warp or group handler: `execute.<style>(g, ins, handler, mask, arguments, kinds)`."""
    arguments = [builder.assign(argument(builder, ins, operand)) for operand in ins.operands[ins.rule.first_source :]]
    runner = {"thread": execute.threads, "warp": execute.warps, "group": execute.groups}[ins.rule.style]
    mask = builder.mask()
    call = f"{builder.constant(runner)}(g, {builder.constant(ins)}, {mask}, ({''.join(a + ', ' for a in arguments)}))"
    outputs = ins.operands[: ins.rule.outputs]
    if not any(registers_of(operand) for operand in outputs):
        with builder.when():
            builder.emit(call)
        return
    per_warp = ins.rule.per_warp and not _tiles(builder, ins)
    if builder.guard is not None and builder.kind(builder.guard) == "U":
        blank = f"{builder.constant(execute.blank)}(g, {builder.constant(ins)}, {per_warp})"
        call = f"{call} if {builder.rep(builder.guard, 'b')} else {blank}"
    result = builder.assign(call)
    _take(builder, ins, result, "W" if per_warp else "V")


def _tiles(builder: Builder, ins: Instruction) -> bool:
    """Whether each lane has a membermask of its own, so that lanes may get different results."""
    members = None if ins.rule.members is None else ins.operands[ins.rule.members]
    return isinstance(members, Register) and builder.kind(builder.register(members)) == "V"


def argument(builder: Builder, ins: Instruction, operand: Operand) -> str:
    """An operand for a handler: an int or an array, a tuple for vectors, `(address, extra...)` for addresses with
    more items."""
    if isinstance(operand, Vector):
        return "(" + "".join(argument(builder, ins, item) + ", " for item in operand.items) + ")"
    if isinstance(operand, Address):
        base = builder.value(operand.base, 64)
        if base.bits not in (32, 64):
            builder.fail("an address has 32 or 64 bits")
        text = builder.rep(base, "u")
        if operand.offset:
            wrap = (1 << base.bits) - 1
            text = (
                f"(({text} + {operand.offset}) & {wrap})"
                if builder.kind(base) == "U"
                else f"({text} + {operand.offset & wrap})"
            )
        if operand.extra:
            return (
                "("
                + "".join(part + ", " for part in [text, *(argument(builder, ins, extra) for extra in operand.extra)])
                + ")"
            )
        return text
    if isinstance(operand, Sink):
        return "None"
    if isinstance(operand, Register):
        value = builder.register(operand)
        return builder.rep(value, "b" if value.bits == 1 else "u")
    if isinstance(operand, Negated):
        return builder.rep(builder.value(operand, 1), "b")
    value = builder.value(operand, 32 if isinstance(operand, Immediate) and ins.mod("type") == "f32" else 64)
    return builder.rep(value, "u" if "u" in value.reps and not _negative(operand) else "s")


def _negative(operand: Operand) -> bool:
    return getattr(operand, "value", 0) < 0
