"""From a parsed function to blocks, liveness, and specialised code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fp4emu.builder import Builder, Context, Value, join, width_of
from fp4emu.errors import Fault, Place, PtxError
from fp4emu.instruction import Address, Immediate, Instruction, Negated, Operand, Pair, Register, Sink, Symbol, Vector
from fp4emu.ptx.tree import Function
from fp4emu.symbols import VOLATILE

if TYPE_CHECKING:
    from fp4emu.group import Group

# What a block's function returns.
NEXT, TAKEN, SPLIT, EXIT, BLOCKED = 0, 1, 2, 3, 4
TABLE = 16  # and above: the entry of a branch table

ENDS = {"bra", "brx.idx", "ret", "exit", "trap"}


def registers_of(operand: Operand) -> list[Register]:
    """Every register in an operand."""
    if isinstance(operand, Register):
        return [operand]
    if isinstance(operand, Vector):
        return [r for item in operand.items for r in registers_of(item)]
    if isinstance(operand, Address):
        return registers_of(operand.base) + [r for item in operand.extra for r in registers_of(item)]
    if isinstance(operand, Pair):
        return registers_of(operand.first) + registers_of(operand.second)
    if isinstance(operand, Negated):
        return registers_of(operand.operand)
    return []


def _reads_clock(ins: Instruction) -> bool:
    return any(isinstance(operand, Symbol) and operand.name in VOLATILE for operand in ins.operands)


@dataclass(slots=True)
class Block:
    """Instructions [start, end). `live_in` is a bit set of register slots. `targets` are the blocks behind TAKEN and
    the table entries. `quiet`: nothing but registers changes, and nothing but registers and memory decides how.
    `members`: the membermask of the first instruction, whose lanes must meet before it."""

    index: int
    start: int
    end: int
    targets: tuple[int, ...] = ()
    falls: bool = True
    use: int = 0
    define: int = 0
    live_in: int = 0
    live_slots: tuple[int, ...] = ()
    quiet: bool = False
    members: Operand | None = None


@dataclass(slots=True)
class Specialised:
    """A block's compiled function. `links` caches what follows each way out, valid while this path runs alone."""

    block: int
    run: Callable[[list[Any], Group], int]
    lines: list[Instruction | None]
    links: dict[int, Specialised]
    out_kinds: dict[int, Any]
    context: Context


@dataclass(slots=True)
class Program:
    """An entry, ready to run. `specialised` is keyed by block, context and the kinds of the `tracked` registers."""

    function: Function
    symbols: Any
    slots: dict[str, int] = field(default_factory=dict[str, int])
    bits: list[int] = field(default_factory=list[int])
    blocks: list[Block] = field(default_factory=list[Block])
    observed: bool = False
    """Whether its code tells who watches the order of accesses what it does."""
    specialised: dict[Any, Specialised] = field(default_factory=dict[Any, Specialised])
    _tracked: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict[tuple[int, int], "tuple[int, ...]"])

    _watched: frozenset[int] | None = None

    @classmethod
    def build(cls, function: Function, symbols: Any, *, observed: bool = False) -> Program:
        program = cls(function, symbols, observed=observed)
        program._number_registers()
        program._make_blocks()
        program._solve_liveness()
        return program

    def watched(self) -> frozenset[int]:
        """The registers of D and A of all wgmmas."""
        if self._watched is None:
            found: set[int] = set()
            for ins in self.function.body:
                if ins.rule.opcode == "wgmma.mma_async":
                    vectors = [operand for operand in ins.operands[:2] if isinstance(operand, Vector)]
                    found |= slot_set(self, vectors)
            self._watched = frozenset(found)
        return self._watched

    def _number_registers(self) -> None:
        for ins in self.function.body:
            operands: list[Operand] = list(ins.operands)
            if ins.guard:
                operands.append(ins.guard.register)
            for operand in operands:
                for register in registers_of(operand):
                    if register.name not in self.slots:
                        self.slots[register.name] = len(self.slots)
                        self.bits.append(width_of(register.type))

    def _make_blocks(self) -> None:
        body, labels = self.function.body, self.function.labels
        if not body:
            raise PtxError(f"{self.function.name} has no instructions", place=Place(line=self.function.line))
        leaders = {0, *(index for index in labels.values() if index < len(body))}
        for index, ins in enumerate(body):
            if ins.rule.opcode in ENDS:
                leaders.add(index + 1)
            if ins.rule.opcode == "brx.idx":
                leaders.add(index)
            if ins.rule.members is not None:
                leaders.add(index)
            if ins.rule.blocking:
                leaders.update((index, index + 1))
        starts = sorted(index for index in leaders if index < len(body))
        of_start = {start: number for number, start in enumerate(starts)}
        for number, start in enumerate(starts):
            end = starts[number + 1] if number + 1 < len(starts) else len(body)
            block = Block(number, start, end)
            block.quiet = all(ins.rule.quiet and not _reads_clock(ins) for ins in body[start:end])
            if (index := body[start].rule.members) is not None:
                block.members = body[start].operands[index]
            last = body[end - 1]
            opcode = last.rule.opcode
            if opcode == "bra":
                block.targets = (self._target(last, last.operands[0], of_start),)
                block.falls = last.guard is not None
            elif opcode == "brx.idx":
                table = last.operands[1]
                names = self.function.branch_tables.get(table.name, []) if isinstance(table, Symbol) else []
                block.targets = tuple(self._target(last, Symbol(name), of_start) for name in names)
                block.falls = last.guard is not None
            elif opcode in ("ret", "exit", "trap"):
                block.falls = last.guard is not None
            if block.falls and end == len(body):
                raise PtxError(f"{self.function.name} runs off its end", place=Place(line=last.line, text=last.text))
            self.blocks.append(block)

    def _target(self, ins: Instruction, operand: Operand, of_start: dict[int, int]) -> int:
        if isinstance(operand, Symbol) and operand.name in self.function.labels:
            found = of_start.get(self.function.labels[operand.name])
            if found is not None:
                return found
        raise PtxError("the branch target is no label of this function", place=Place(line=ins.line, text=ins.text))

    def _solve_liveness(self) -> None:
        body = self.function.body
        for block in self.blocks:
            for ins in body[block.start : block.end]:
                outputs = ins.rule.outputs
                reads = [r for o in ins.operands[ins.rule.first_source :] for r in registers_of(o)]
                writes: list[Register] = []
                for operand in ins.operands[:outputs]:
                    if isinstance(operand, Address):
                        reads += registers_of(operand)
                    else:
                        writes += registers_of(operand)
                if ins.guard:
                    reads += [ins.guard.register, *writes]
                for register in reads:
                    bit = 1 << self.slots[register.name]
                    if not block.define & bit:
                        block.use |= bit
                for register in writes:
                    block.define |= 1 << self.slots[register.name]
        changed = True
        while changed:
            changed = False
            for block in reversed(self.blocks):
                out = self.live_out(block)
                live = block.use | (out & ~block.define)
                if live != block.live_in:
                    block.live_in, changed = live, True
        for block in self.blocks:
            block.live_slots = tuple(bit_positions(block.live_in))

    def live_out(self, block: Block) -> int:
        out = self.blocks[block.index + 1].live_in if block.falls else 0
        for target in block.targets:
            out |= self.blocks[target].live_in
        return out

    def successor(self, block: int, code: int) -> int:
        """The block that a way out leads to."""
        found = self.blocks[block]
        if code == NEXT:
            return block + 1
        return found.targets[code - TABLE if code >= TABLE else 0]

    def tracked(self, block: int, keep: int) -> tuple[int, ...]:
        """The registers whose kinds a block's code depends on: those live into it, and those that other paths keep."""
        if not keep:
            return self.blocks[block].live_slots
        found = self._tracked.get((block, keep))
        if found is None:
            found = self._tracked[block, keep] = tuple(bit_positions(self.blocks[block].live_in | keep))
        return found

    def specialise(self, block: int, context: Context, kinds: tuple[Any, ...]) -> Specialised:
        """The block's code for these kinds of its `tracked` registers (None: never written)."""
        key = (block, context, kinds)
        found = self.specialised.get(key)
        if found is None:
            found = self.specialised[key] = compile_block(self, self.blocks[block], context, kinds)
        return found


def bit_positions(bits: int) -> list[int]:
    """Positions of the set bits, ascending."""
    text = bin(bits)[:1:-1]
    return [i for i, c in enumerate(text) if c == "1"]


def compile_block(program: Program, block: Block, context: Context, kinds: tuple[Any, ...]) -> Specialised:
    builder = Builder(context, program.slots, program.symbols)
    for slot, kind in zip(program.tracked(block.index, context.keep), kinds, strict=True):
        if kind is not None:
            builder.load(slot, kind, program.bits[slot])
    body = program.function.body[block.start : block.end]
    ending: list[str] = []
    for ins in body:
        builder.current = ins
        builder.guard = None
        if ins.guard is not None:
            guard = builder.register(ins.guard.register)
            builder.guard = builder.value(Negated(ins.guard.register), 1) if ins.guard.negated else guard
        if program.observed:
            _observe(builder, program, ins)
        if ins.rule.opcode in ENDS:
            ending = _ending(builder, program, ins)
        else:
            try:
                _emit(builder, ins)
            except Fault as fault:
                raise fault.with_place(line=ins.line, text=ins.text, entry=program.function.name) from None
    last = body[-1]
    if last.rule.blocking:
        ending = ["return 4 if g.waits else 0"]
    out_kinds: dict[int, Any] = {}
    live = block.live_in | program.live_out(block) | context.keep
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
    code = compile(text, f"<ptx {program.function.name} block {block.index}>", "exec")
    exec(code, builder.namespace)  # noqa: S102 (the text is generated above from a checked instruction list)
    lines = [None] * len(head) + [ins for _, ins in builder.lines]
    return Specialised(block.index, builder.namespace["block"], lines, {}, out_kinds, context)


def _observe(builder: Builder, program: Program, ins: Instruction) -> None:
    """Tells who watches the order of accesses what runs, and applies the rules that come in front of it."""
    from fp4emu.order import rules, wgmma

    if ins.rule.opcode in rules.BEFORE:
        with builder.when():
            builder.emit(f"{builder.constant(rules.before)}(g, {builder.constant(ins)}, {builder.mask()})")
    elif ".sync" in ins.name and ins.rule.family != "barriers":
        with builder.when():
            builder.emit(f"{builder.constant(rules.aligned)}(g, {builder.constant(ins)}, {builder.mask()})")
    if slots := program.watched():
        written = frozenset(slot_set(program, ins.operands[: ins.rule.outputs]) & slots)
        read = frozenset(slot_set(program, ins.operands[ins.rule.first_source :]) & slots)
        if written or read:
            call = f"{builder.constant(wgmma.registers)}(g, {builder.constant(ins)}, {builder.mask()}"
            with builder.when():
                builder.emit(f"{call}, {builder.constant(read)}, {builder.constant(written)})")
    if ins.rule.family in _TOUCHING:
        builder.emit(f"g.order.ins = {builder.constant(ins)}")


def slot_set(program: Program, operands: Iterable[Operand]) -> set[int]:
    """The slots of the registers in some operands."""
    return {program.slots[register.name] for operand in operands for register in registers_of(operand)}


_TOUCHING = frozenset({"memory", "mbarrier", "barriers"})


def _ending(builder: Builder, program: Program, ins: Instruction) -> list[str]:
    """The statements that end a block at a branch or an exit."""
    opcode, guard = ins.rule.opcode, builder.guard
    if opcode == "brx.idx":
        if guard is not None:
            builder.fail("a guarded brx.idx is not emulated")
        index, _ = builder.source(ins.operands[0], "u", 32)
        return [f"return g.branch_table({index}, {builder.mask()}, {len(program.blocks)})"]
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
        _emit_lane(builder, ins)
    else:
        _emit_call(builder, ins)


def _emit_lane(builder: Builder, ins: Instruction) -> None:
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


def _emit_call(builder: Builder, ins: Instruction) -> None:
    """A thread, warp or group handler: `execute.<style>(g, ins, handler, mask, arguments, kinds)`."""
    from fp4emu import execute

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
