"""The Python function of a basic block, for what its registers hold: which families write which lines of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fp4emu.builder import Builder, Names
from fp4emu.calls import write_call, write_lane_call
from fp4emu.errors import Fault
from fp4emu.flow import ENDS, Block, Flow
from fp4emu.instruction import Instruction, Negated
from fp4emu.lockstep import EXIT, TAKEN, Lockstep
from fp4emu.order import rules, wgmma
from fp4emu.representation import Context


@dataclass(slots=True)
class Specialised:
    """A block's compiled function. `links` caches what follows each way out, valid while this path runs alone."""

    block: int
    run: Callable[[list[Any], Lockstep], int]
    lines: list[Instruction | None]
    links: dict[int, Specialised]
    out_kinds: dict[int, Any]
    context: Context


def compile_block(
    flow: Flow,
    names: Names,
    block: Block,
    context: Context,
    kinds: tuple[Any, ...],
    *,
    observed: bool,
    recorded: bool = False,
) -> Specialised:
    """The block's code where its `tracked` registers hold these kinds; `observed`, code that tells who watches the
    order of accesses what it does; `recorded`, code that tells a recording which instruction runs."""
    builder = Builder(context, flow.slots, names)
    for slot, kind in zip(flow.tracked(block.index, context.keep), kinds, strict=True):
        if kind is not None:
            builder.load(slot, kind, flow.bits[slot])
    body = flow.function.body[block.start : block.end]
    ending: list[str] = []
    for place, ins in enumerate(body, block.start):
        builder.current = ins
        builder.guard = None
        if ins.guard is not None:
            guard = builder.register(ins.guard.register)
            builder.guard = builder.value(Negated(ins.guard.register), 1) if ins.guard.negated else guard
        if observed:
            _observe(builder, flow, ins)
        if recorded and ins.rule.family in RECORDED:
            builder.emit(f"g.recording.at = {place}")
        if ins.rule.opcode in ENDS:
            ending = _ending(builder, flow, ins)
        else:
            try:
                _emit(builder, ins)
            except Fault as fault:
                raise fault.with_place(line=ins.line, text=ins.text, entry=flow.function.name) from None
    last = body[-1]
    if last.rule.blocking:
        ending = ["return 4 if g.waits else 0"]
    out_kinds: dict[int, Any] = {}
    live = block.live_in | flow.live_out(block) | context.keep
    builder.current = None
    for slot in sorted(builder.written):
        if live >> slot & 1:
            text, out_kinds[slot] = builder.stored(builder.known[slot])
            builder.emit(f"r[{slot}] = {text}")
    builder.current = last
    for line in ending or ["return 0"]:
        builder.emit(line)
    head = ["def block(r, g):", *(["    m = g.mask"] if context.mask == "D" else []), *builder.head]
    text = "\n".join([*head, *(line for line, _ in builder.lines)])
    code = compile(text, f"<ptx {flow.function.name} block {block.index}>", "exec")
    exec(code, builder.namespace)  # noqa: S102 (the text is generated above from a checked instruction list)
    lines = [None] * len(head) + [ins for _, ins in builder.lines]
    return Specialised(block.index, builder.namespace["block"], lines, {}, out_kinds, context)


#: Families whose instructions tell a recording what they did (`fp4emu.recording`).
RECORDED = frozenset(
    {"memory", "atomics", "mbarrier", "barriers", "bulk_tensor", "bulk_copy", "async_copy", "tcgen05_mma"}
    | {"tcgen05_memory"}
)
_TOUCHING = frozenset({"memory", "mbarrier", "barriers"})


def _observe(builder: Builder, flow: Flow, ins: Instruction) -> None:
    """Tells who watches the order of accesses what runs, and applies the rules that come in front of it."""
    if ins.rule.opcode in rules.BEFORE:
        with builder.when():
            builder.emit(f"{builder.constant(rules.before)}(g, {builder.constant(ins)}, {builder.mask()})")
    elif ".sync" in ins.name and ins.rule.family != "barriers":
        with builder.when():
            builder.emit(f"{builder.constant(rules.aligned)}(g, {builder.constant(ins)}, {builder.mask()})")
    if slots := flow.watched():
        written = frozenset(flow.slots_of(ins.operands[: ins.rule.outputs]) & slots)
        read = frozenset(flow.slots_of(ins.operands[ins.rule.first_source :]) & slots)
        if written or read:
            call = f"{builder.constant(wgmma.registers)}(g, {builder.constant(ins)}, {builder.mask()}"
            with builder.when():
                builder.emit(f"{call}, {builder.constant(read)}, {builder.constant(written)})")
    if ins.rule.family in _TOUCHING:
        builder.emit(f"g.order.ins = {builder.constant(ins)}")


def _ending(builder: Builder, flow: Flow, ins: Instruction) -> list[str]:
    """The statements that end a block at a branch or an exit."""
    opcode, guard = ins.rule.opcode, builder.guard
    if opcode == "brx.idx":
        if guard is not None:
            builder.fail("a guarded brx.idx is not emulated")
        index, _ = builder.source(ins.operands[0], "u", 32)
        return [f"return g.branch_table({index}, {builder.mask()}, {len(flow.blocks)})"]
    way = {"bra": TAKEN, "ret": EXIT, "exit": EXIT, "trap": EXIT}[opcode]
    if opcode == "trap":
        with builder.when():
            builder.emit(f"g.trap({builder.mask()})")
    if guard is None:
        return [f"return {way}"]
    kind = builder.kind(guard)
    text = builder.rep(guard, "b")
    if kind == "U":
        return [f"return {way} if {text} else 0"]
    mask = {"F": "None", "E": "LANE0", "D": "m"}[builder.context.mask]
    return [f"return g.branch({text}, {mask}, {way})"]


def _emit(builder: Builder, ins: Instruction) -> None:
    style = ins.rule.style
    if style == "emit":
        ins.rule.handler(builder, ins)
    elif style == "lane":
        write_lane_call(builder, ins)
    else:
        write_call(builder, ins)
