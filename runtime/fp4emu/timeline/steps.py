"""A basic block as steps that take time, from its instructions alone.

Arithmetic becomes stretches: issue slots of a warp's scheduler, and the latency of the longest chain of dependent
instructions. Loads go ahead as far as their addresses allow, as ptxas moves them; a stretch that needs what a load
brings comes after a step that waits for it. Where an instruction did something at run time (`fp4emu.recording`), a step
takes it from the record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fp4emu.flow import Block, Flow
from fp4emu.instruction import Instruction, registers_of
from fp4emu.timeline.rates import Rates

#: (what, ...): see `Replay`.
Step = tuple[Any, ...]

_FREE = frozenset({"mov", "cvta", "cvta.to", "elect.sync", "bar.warp.sync", "setmaxnreg", "griddepcontrol", "pmevent"})
_SPECIAL = frozenset(
    {"ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "div", "popc", "brev", "clz", "bfind"}
)
_SHUFFLES = frozenset({"shfl.sync", "redux.sync", "vote.sync", "match", "activemask"})
_FLOATS = frozenset({"floating", "half", "mixed"})
_FENCES = frozenset({"fence.proxy.async", "fence.mbarrier_init", "fence.proxy.tensormap", "fence.proxy"})
#: What takes its place in the order of the program: nothing is moved across.
_FIXED = frozenset({"mbarrier", "barriers", "bulk_tensor", "bulk_copy", "async_copy", "tcgen05_mma", "wgmma", "fences",
                    "tcgen05_memory", "cluster_launch", "control", "atomics"})  # fmt: skip
_NUMBERS = {"b8": 1, "b16": 2, "b32": 4, "b64": 8, "b128": 16}


@dataclass(slots=True)
class _Stretch:
    """Arithmetic between two other steps: `slots` by pipe, and when each register is there."""

    issue: float = 0.0
    integer: float = 0.0
    special: float = 0.0
    convert: float = 0.0
    latency: float = 0.0
    ready: dict[int, float] = field(default_factory=dict[int, float])

    def add(self, ins: Instruction, reads: Iterable[int], writes: Iterable[int], rates: Rates) -> None:
        issue, integer, special, convert, latency = _cost(ins, rates)
        self.issue += issue
        self.integer += integer
        self.special += special
        self.convert += convert
        begin = max((self.ready[slot] for slot in reads if slot in self.ready), default=0.0)
        end = begin + latency
        for slot in writes:
            self.ready[slot] = end
        self.latency = max(self.latency, end)

    def steps(self, rates: Rates) -> list[Step]:
        pipes = self.integer * rates.issue * rates.integer, self.special * rates.special, self.convert * rates.convert
        slots = max(self.issue * rates.issue, *pipes)
        return [("run", slots, max(slots, self.latency))] if slots or self.latency else []


def _cost(ins: Instruction, rates: Rates) -> tuple[float, float, float, float, float]:
    """(issue slots, those of the integer pipe, of the special function unit and of conversions, latency)."""
    opcode, family = ins.rule.opcode, ins.rule.family
    if opcode in _FREE or (opcode == "ld" and ins.mod("space").startswith("param")):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    if opcode in _SPECIAL:
        return 1.0, 0.0, 1.0, 0.0, rates.special_latency
    if opcode in _SHUFFLES:
        return 1.0, 1.0, 0.0, 0.0, rates.shuffle_latency
    if family == "convert" and _converts(ins):
        return 1.0, 0.0, 0.0, 1.0, 2 * rates.alu_latency
    wide = 2.0 if ins.mod("type").endswith("64") and family in ("integer", "logic") else 1.0
    return wide, 0.0 if family in _FLOATS else wide, 0.0, 0.0, rates.alu_latency


def _converts(ins: Instruction) -> bool:
    """Whether a cvt is more than a move: one of its types is a float."""
    kinds = ins.name.split(".")[1:]
    return any(
        kind[:1] in ("f", "b", "e", "t") or kind.startswith("ue8")
        for kind in kinds
        if kind[-1:].isdigit() or "x" in kind
    )


def steps_of(flow: Flow, block: Block, rates: Rates) -> list[Step]:
    """The steps of a block."""
    body = flow.function.body
    found: list[Step] = []
    region: list[tuple[int, Instruction]] = []
    for at in range(block.start, block.end):
        ins = body[at]
        if ins.rule.family in _FIXED and ins.rule.opcode not in ("bra",):
            found += _region(flow, region, rates)
            region = []
            found += _fixed(flow, at, ins, rates)
        else:
            region.append((at, ins))
    return found + _region(flow, region, rates)


def _region(flow: Flow, region: list[tuple[int, Instruction]], rates: Rates) -> list[Step]:
    """Instructions of which loads may go ahead: in stages, each of which needs what the loads of the last one bring."""
    if not region:
        return []
    stage_of: dict[int, int] = {}
    loaded: set[int] = set()
    stages: dict[int, list[tuple[int, Instruction, set[int], set[int]]]] = {}
    for at, ins in region:
        reads, writes = _slots(flow, ins)
        stage = 0
        for slot in reads:
            stage = max(stage, stage_of.get(slot, 0) + (1 if slot in loaded else 0))
        for slot in writes:
            stage_of[slot] = stage
            (loaded.add if _brings(ins) else loaded.discard)(slot)
        stages.setdefault(stage, []).append((at, ins, reads, writes))
    found: list[Step] = []
    for stage in sorted(stages):
        late: list[Step] = []
        stretch, needed = _Stretch(), set[int]()
        for at, ins, reads, writes in stages[stage]:
            if _brings(ins) or ins.rule.opcode in ("st", "stmatrix"):
                late.append(("need", tuple(reads)))
                late.append(_access(at, ins, writes, rates))
                stretch.issue += 1.0
            else:
                needed |= reads
                stretch.add(ins, reads, writes, rates)
        if needed:
            found.append(("need", tuple(needed)))
        found += stretch.steps(rates)
        found += late
    return found


def _brings(ins: Instruction) -> bool:
    """Whether the result comes much later than that of arithmetic."""
    opcode = ins.rule.opcode
    if opcode == "ld":
        return not ins.mod("space").startswith("param")
    return opcode in ("ldmatrix", "mma") or opcode.startswith("wmma.")


def _slots(flow: Flow, ins: Instruction) -> tuple[set[int], set[int]]:
    writes = flow.slots_of(ins.operands[: ins.rule.outputs])
    reads = flow.slots_of(ins.operands[ins.rule.first_source :])
    if ins.guard is not None:
        reads = reads | {flow.slots[ins.guard.register.name]}
    return reads, writes


def _access(at: int, ins: Instruction, writes: set[int], rates: Rates) -> Step:
    """A load or store, or an mma.sync: (what, at, registers that it brings, ...)."""
    opcode = ins.rule.opcode
    if opcode in ("ldmatrix", "stmatrix"):
        return ("matrix", int((ins.mod("num") or "x1")[1:] or 1) if "num" in ins.mods else _count(ins), tuple(writes))
    if opcode == "mma" or opcode.startswith("wmma."):
        return ("mma.sync", _mma_sync(ins, rates), tuple(writes))
    return ("access", at, tuple(writes))


def _count(ins: Instruction) -> int:
    return next((int(part[1:]) for part in ins.name.split(".") if part in ("x1", "x2", "x4")), 1)


def _mma_sync(ins: Instruction, rates: Rates) -> float:
    """Clocks of a scheduler's tensor core."""
    shape = next((part for part in ins.name.split(".") if part[:1] == "m" and part[1:2].isdigit()), "m16n16k16")
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    wide = any(part in ("e4m3", "e5m2", "s8", "u8") for part in ins.name.split("."))
    rate = rates.tensor_flop_per_clock / 4 * rates.mma_sync_rate * (2 if wide else 1)
    return 2 * int(m) * int(n) * int(k) / rate


def _fixed(flow: Flow, at: int, ins: Instruction, rates: Rates) -> list[Step]:
    opcode = ins.rule.opcode
    reads, writes = _slots(flow, ins)
    need: list[Step] = [("need", tuple(reads))] if reads else []
    if opcode in ("ret", "exit", "trap"):
        return need
    if opcode == "wgmma.mma_async":
        return [*need, _wgmma(ins, rates)]
    if opcode == "wgmma.commit_group":
        return [("wgmma commit",)]
    if opcode == "wgmma.wait_group":
        return [("wgmma wait", ins.operands[0].value)]  # type: ignore[union-attr]
    if opcode in ("tcgen05.ld", "tcgen05.st"):
        return [*need, ("run", 1.0, 1.0), ("tensor memory", _tensor_bytes(ins))]
    if opcode in ("tcgen05.wait::ld", "tcgen05.wait::st"):
        return [("tensor memory wait",)]
    if opcode in ("barrier.cluster",):
        return [("cluster arrive",) if ".arrive" in ins.name else ("cluster wait",)]
    if ins.rule.family == "fences":
        strong = "gpu" in ins.name or "sys" in ins.name or opcode.startswith("membar")
        return [("fence", rates.membar_latency if strong else rates.fence_latency)]
    if opcode in _FREE or ins.rule.family == "control":
        return need
    return [*need, ("run", rates.issue, rates.issue), ("event", at, tuple(writes))]


def _wgmma(ins: Instruction, rates: Rates) -> Step:
    """(what, clocks of a scheduler's tensor core, bytes of shared memory for a warp, FLOP of a warp)."""
    n, k = (int(x) for x in ins.mod("shape").removeprefix("m64n").split("k"))
    flop = 2 * 16 * n * k
    bits = {16: 16, 8: 32, 32: 8}[k]
    clocks = flop / (rates.tensor_flop_per_clock / 4 * 16 / bits)
    from_shared = 0 if len(registers_of(ins.operands[1])) > 2 else 64 * k * bits // 8
    return ("wgmma", clocks, (from_shared + n * k * bits // 8) / 4, flop)


def _tensor_bytes(ins: Instruction) -> int:
    """Bytes of tensor memory that a warp's tcgen05.ld or .st moves."""
    lanes = {"32x32b": 4, "16x64b": 4, "16x128b": 8, "16x256b": 16, "16x32bx2": 4}[ins.mod("shape")]
    return 32 * lanes * int(ins.mod("num")[1:])
