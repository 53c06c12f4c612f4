"""Every one-point fault of synchronisation and addressing of a kernel, made on its parsed instructions.

A mutation takes one instruction out, or puts others in its place: a wait that has already passed, an arrival that
publishes nothing, a count or an address that is off, a guard turned round. Control flow and arithmetic stay as they
are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fp4emu.instruction import Address, Immediate, Instruction, Operand, Pair, Register, Symbol, Vector
from fp4emu.ptx.tree import Function
from fp4emu.registry import find_rule

DROPPED = (
    "fence", "membar", "tcgen05.fence", "tcgen05.wait", "tcgen05.commit", "tcgen05.dealloc", "wgmma.fence",
    "wgmma.commit_group", "wgmma.wait_group", "cp.async.commit_group", "cp.async.wait", "cp.async.bulk.commit_group",
    "cp.async.bulk.wait_group", "cp.async.mbarrier", "bar", "barrier", "mbarrier.arrive", "mbarrier.expect_tx",
    "mbarrier.init", "griddepcontrol", "setmaxnreg", "tcgen05.relinquish",
)  # fmt: skip
SEMANTICS = ("mbarrier.arrive", "mbarrier.try_wait", "mbarrier.test_wait", "atom", "red", "ld", "st", "barrier.cluster")
GUARDED = (*DROPPED, "cp.async", "tcgen05", "wgmma", "st", "red", "atom", "stmatrix", "elect", "prefetch")
START_BITS = {"start": 2, "leading": 1 << 16, "stride": 1 << 32}
"""What is added to a matrix descriptor: 32 bytes to its start, 16 to a byte offset."""


@dataclass(frozen=True)
class Mutation:
    """Instead of instruction `index` of a function, `instead`. `kind` says what was done."""

    index: int
    kind: str
    instead: tuple[Instruction, ...]

    def applied(self, function: Function) -> Function:
        """The function with the fault; labels go on naming the instructions that they named."""
        more = len(self.instead) - 1
        labels = {name: at + more * (at > self.index) for name, at in function.labels.items()}
        body = [*function.body[: self.index], *self.instead, *function.body[self.index + 1 :]]
        return replace(function, body=body, labels=labels)

    def title(self, function: Function) -> str:
        """The line, what was done, and the instruction."""
        ins = function.body[self.index]
        return f"line {ins.line} {self.kind}: {' '.join(ins.text.split())}"

    def around(self, function: Function) -> str:
        """The opcodes of four instructions on either side, which outlast changes of registers and lines."""
        names = [ins.rule.opcode for ins in function.body]
        return " ".join([*names[max(self.index - 4, 0) : self.index], "@", *names[self.index + 1 : self.index + 5]])


class _Maker:
    """Makes the faults of one instruction."""

    def __init__(self, index: int, ins: Instruction, target: str) -> None:
        self.index, self.ins, self.target = index, ins, target

    def new(self, name: str, *operands: Operand) -> Instruction:
        """Another instruction in the same place."""
        rule, mods = find_rule(name, self.target)
        return Instruction(name, operands, None, self.ins.line, self.ins.text, rule, mods)

    def mutation(self, kind: str, *instead: Instruction) -> Mutation:
        return Mutation(self.index, kind, instead)

    def nothing(self) -> Instruction:
        return self.new("pmevent", Immediate(0))

    def renamed(self, **changes: str) -> Instruction | None:
        """The instruction with other modifiers, if there is one."""
        mods = {**self.ins.mods, **changes}
        for form in self.ins.rule.forms:
            if set(self.ins.mods) != {slot.name for slot in form.slots}:
                continue
            name = ".".join([self.ins.rule.opcode, *(str(m) for s in form.slots if (m := mods[s.name]) is not None)])
            try:
                rule, found = find_rule(name, self.target)
            except LookupError:
                return None
            return replace(self.ins, name=name, rule=rule, mods=found)
        return None

    def put(self, number: int, operand: Operand) -> Instruction:
        """The instruction with another operand."""
        operands = list(self.ins.operands)
        operands[number] = operand
        return replace(self.ins, operands=tuple(operands))

    def changed(self, number: int, amount: int, bits: int, how: str = "add") -> tuple[Instruction, ...] | None:
        """Operand `number` with `amount` added to it, or its bits flipped."""
        made = self._operand(self.ins.operands[number], amount, bits, how)
        if made is None:
            return None
        operand, before = made
        return (*before, self.put(number, operand))

    def _operand(self, old: Operand, amount: int, bits: int, how: str) -> tuple[Operand, list[Instruction]] | None:
        if isinstance(old, Address) and not old.extra:
            return replace(old, offset=old.offset + amount), []
        if isinstance(old, Address):
            made = self._operand(old.base, amount, bits, how)
            return None if made is None else (replace(old, base=made[0]), made[1])
        if isinstance(old, Immediate):
            return Immediate(old.value ^ amount if how == "xor" else old.value + amount), []
        if not isinstance(old, Register | Symbol):
            return None
        if isinstance(old, Register):
            width = int(old.type.lstrip("busf"))
            if width not in (16, 32, 64):
                return None
            bits = width
        register = Register("%mutant", f"b{bits}")
        name = f"xor.b{bits}" if how == "xor" else f"add.u{bits}"
        return register, [self.new(name, register, old, Immediate(amount & ((1 << bits) - 1)))]

    def coordinate(self, number: int, axis: int, amount: int) -> tuple[Instruction, ...] | None:
        """A copy's tensor coordinate with `amount` added."""
        place = self.ins.operands[number]
        if not isinstance(place, Address) or not place.extra or not isinstance(place.extra[0], Vector):
            return None
        items = list(place.extra[0].items)
        if axis >= len(items):
            return None
        made = self._operand(items[axis], amount, 32, "add")
        if made is None:
            return None
        items[axis] = made[0]
        extra = (Vector(tuple(items)), *place.extra[1:])
        return (*made[1], self.put(number, replace(place, extra=extra)))


def mutations(function: Function, target: str) -> list[Mutation]:
    """All faults, in the order of the instructions."""
    found: list[Mutation] = []
    for index, ins in enumerate(function.body):
        maker = _Maker(index, ins, target)
        for kind, instead in _faults(maker):
            if instead is not None and (len(instead) != 1 or instead[0] != ins):
                found.append(maker.mutation(kind, *instead))
    return found


Fault = tuple[str, tuple[Instruction, ...] | None]


def _is(ins: Instruction, opcodes: tuple[str, ...]) -> bool:
    opcode = ins.rule.opcode
    return any(opcode == name or opcode.startswith((name + ".", name + "::")) for name in opcodes)


def _faults(m: _Maker) -> Iterator[Fault]:
    ins = m.ins
    if _is(ins, DROPPED):
        yield "dropped", (m.nothing(),)
    yield from _waits(m)
    yield from _semantics(m)
    yield from _counts(m)
    yield from _tensor_core(m)
    yield from _addresses(m)
    if ins.guard is not None and _is(ins, GUARDED):
        yield "guard dropped", (replace(ins, guard=None),)
        yield "guard turned round", (replace(ins, guard=replace(ins.guard, negated=not ins.guard.negated)),)


def _waits(m: _Maker) -> Iterator[Fault]:
    ins, opcode = m.ins, m.ins.rule.opcode
    if opcode in ("mbarrier.try_wait", "mbarrier.test_wait"):
        yield "not waited", (m.new("setp.eq.u32", ins.operands[0], Immediate(0), Immediate(0)),)
        yield "other parity", m.changed(2, 1, 32, "xor")
    elif opcode == "elect.sync":
        chosen = ins.operands[0].second if isinstance(ins.operands[0], Pair) else ins.operands[0]
        lane = Register("%mutant", "b32")
        yield (
            "another lane",
            (m.new("mov.u32", lane, Symbol("%laneid")), m.new("setp.eq.u32", chosen, lane, Immediate(1))),
        )
        yield "every lane", (m.new("setp.eq.u32", chosen, Immediate(0), Immediate(0)),)
    elif opcode.endswith("wait_group"):
        yield "one group more pending", m.changed(0, 1, 32)
    elif opcode in ("bar", "barrier"):
        yield "another barrier", m.changed(0, 1, 32, "xor")
        if len(ins.operands) > 1:
            yield "a warp more", m.changed(1, 32, 32)
            yield "a warp fewer", m.changed(1, -32, 32)
    elif opcode == "bar.warp.sync":
        yield "lane 0 left out", m.changed(0, 1, 32, "xor")


def _semantics(m: _Maker) -> Iterator[Fault]:
    ins = m.ins
    if _is(ins, SEMANTICS) and "sem" in ins.mods:
        strong = ins.mod("sem") in ("release", "acquire", "acq_rel")
        if strong or ins.rule.opcode.startswith("mbarrier") and not ins.mod("sem"):
            scope = {"scope": ins.mod("scope") or "cta"} if "scope" in ins.mods else {}
            yield "relaxed", _one(m.renamed(sem="relaxed", **scope))
    if ins.mod("scope") in ("cluster", "gpu"):
        yield "scope of the CTA", _one(m.renamed(scope="cta"))
    if ins.rule.opcode == "fence.proxy" and "shared" in ins.mod("space"):
        yield "proxy fence of global memory", _one(m.new("fence.proxy.async.global"))
    if ins.mod("cta_group"):
        other = "cta_group::1" if ins.mod("cta_group").endswith("2") else "cta_group::2"
        yield "other cta_group", _one(m.renamed(cta_group=other))


def _one(ins: Instruction | None) -> tuple[Instruction, ...] | None:
    return None if ins is None else (ins,)


def _counts(m: _Maker) -> Iterator[Fault]:
    ins, opcode = m.ins, m.ins.rule.opcode
    last = len(ins.operands) - 1
    if opcode == "mbarrier.init":
        yield "count + 1", m.changed(1, 1, 32)
        yield "count - 1", m.changed(1, -1, 32)
    elif opcode == "mbarrier.expect_tx" or ins.has("expect"):
        for amount in (1, -1, 16):
            yield f"bytes {amount:+}", m.changed(last, amount, 32)
    elif opcode.startswith("mbarrier.arrive") and last == 2:
        yield "count + 1", m.changed(2, 1, 32)
    if ins.has("multicast"):
        place = last if opcode == "tcgen05.commit" or not ins.has("hint") else last - 1
        yield "mask without the first CTA", m.changed(place, 1, 16, "xor")
        yield "mask with another CTA", m.changed(place, 2, 16, "xor")
    if opcode == "mapa":
        yield "another CTA", m.changed(2, 1, 32, "xor")


def _tensor_core(m: _Maker) -> Iterator[Fault]:
    ins, opcode = m.ins, m.ins.rule.opcode
    if opcode == "tcgen05.mma":
        yield "D a column on", m.changed(0, 4, 32)
        yield from _descriptors(m, (1, 2))
        yield "other N", m.changed(3, 1 << 17, 32, "xor")
        if ins.has("block_scale"):
            yield "scales of A a column on", m.changed(4, 4, 32)
            yield "scales of B a column on", m.changed(5, 4, 32)
    elif opcode == "tcgen05.cp":
        yield "a column on", m.changed(0, 4, 32)
        yield from _descriptors(m, (1,))
    elif opcode in ("tcgen05.ld", "tcgen05.st"):
        at = 1 if opcode.endswith("ld") else 0
        yield "a column on", m.changed(at, 1, 32)
        yield "another quarter of lanes", m.changed(at, 1 << 21, 32, "xor")
    elif opcode == "tcgen05.alloc":
        yield "half the columns", m.changed(1, -32, 32)
    elif opcode == "wgmma.mma_async":
        descriptors = tuple(i for i in (1, 2) if isinstance(o := ins.operands[i], Register) and o.type.endswith("64"))
        yield from _descriptors(m, descriptors)


def _descriptors(m: _Maker, numbers: tuple[int, ...]) -> Iterator[Fault]:
    for number in numbers:
        if isinstance(m.ins.operands[number], Address):
            continue
        for field, amount in START_BITS.items():
            yield f"descriptor {number}: {field}", m.changed(number, amount, 64)
        yield f"descriptor {number}: swizzle", m.changed(number, 1 << 62, 64, "xor")


def _addresses(m: _Maker) -> Iterator[Fault]:
    ins, opcode = m.ins, m.ins.rule.opcode
    space = ins.mod("space")
    if opcode in ("ld", "st", "red", "atom") and space in ("shared", "shared::cta", "shared::cluster", "global"):
        yield "16 bytes on", m.changed(0 if opcode in ("st", "red") else 1, 16, 64 if space == "global" else 32)
    elif opcode in ("ldmatrix", "stmatrix"):
        yield "16 bytes on", m.changed(0 if opcode == "stmatrix" else 1, 16, 32)
    elif opcode == "cp.async":
        yield "16 bytes on", m.changed(0, 16, 32)
        yield "source 16 bytes on", m.changed(1, 16, 64)
    elif opcode in ("cp.async.bulk.tensor", "cp.reduce.async.bulk.tensor"):
        store = ins.has("bulk_group")
        tensor, shared = (0, 1) if store else (1, 0)
        yield "128 bytes on", m.changed(shared, 128, 32)
        for axis in range(3):
            yield f"coordinate {axis}", m.coordinate(tensor, axis, 32 if axis == 0 else 1)
        if not store:
            yield "another mbarrier", m.changed(2, 8, 32)
    elif opcode == "cp.async.bulk":
        yield "16 bytes on", m.changed(0, 16, 64)
        yield "source 16 bytes on", m.changed(1, 16, 64)
    elif opcode.startswith("mbarrier.") and opcode != "mbarrier.init":
        number = 0 if opcode.endswith("expect_tx") else 1
        if isinstance(ins.operands[number], Address):
            yield "another mbarrier", m.changed(number, 8, 32)
    elif opcode == "tcgen05.commit":
        yield "another mbarrier", m.changed(0, 8, 32)
