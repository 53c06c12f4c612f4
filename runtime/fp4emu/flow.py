"""The flow of an entry: its registers by slot, its basic blocks, and which registers are live where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fp4emu.errors import Place, PtxError
from fp4emu.instruction import Address, Instruction, Operand, Register, Symbol, Vector, registers_of
from fp4emu.lockstep import NEXT, TABLE
from fp4emu.ptx.tree import Function
from fp4emu.representation import width_of
from fp4emu.special import VOLATILE

ENDS = {"bra", "brx.idx", "ret", "exit", "trap"}


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
class Flow:
    """An entry's registers, numbered as `slots` with their widths in `bits`, and its blocks."""

    function: Function
    slots: dict[str, int] = field(default_factory=dict[str, int])
    bits: list[int] = field(default_factory=list[int])
    blocks: list[Block] = field(default_factory=list[Block])
    _tracked: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict[tuple[int, int], "tuple[int, ...]"])
    _watched: frozenset[int] | None = None

    @classmethod
    def build(cls, function: Function) -> Flow:
        """`PtxError` names the line of what has no meaning."""
        flow = cls(function)
        flow._number_registers()
        flow._make_blocks()
        flow._solve_liveness()
        return flow

    def watched(self) -> frozenset[int]:
        """The registers of D and A of all wgmmas."""
        if self._watched is None:
            found: set[int] = set()
            for ins in self.function.body:
                if ins.rule.opcode == "wgmma.mma_async":
                    vectors = [operand for operand in ins.operands[:2] if isinstance(operand, Vector)]
                    found |= self.slots_of(vectors)
            self._watched = frozenset(found)
        return self._watched

    def slots_of(self, operands: Iterable[Operand]) -> set[int]:
        """The slots of the registers in some operands."""
        return {self.slots[register.name] for operand in operands for register in registers_of(operand)}

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


def bit_positions(bits: int) -> list[int]:
    """Positions of the set bits, ascending."""
    text = bin(bits)[:1:-1]
    return [i for i, c in enumerate(text) if c == "1"]
