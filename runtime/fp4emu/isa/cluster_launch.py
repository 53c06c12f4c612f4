"""Taking over the work of a cluster that has not been launched (PTX ISA 9.7.13.17, clusterlaunchcontrol; sm_100 and
later).

The 16-byte response: bit 0 set if a cluster was canceled, then the %ctaid of its first CTA as three 32-bit words.
"""

from __future__ import annotations

from fp4emu.builder import Builder
from fp4emu.effects import submit
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction, Sink, Vector
from fp4emu.machine import ThreadContext
from fp4emu.memory import RANK_SHIFT
from fp4emu.registry import instruction
from fp4emu.representation import Value

SECTION = "9.7.13.17"
TARGETS = ("sm_100a", "sm_103a", "sm_120a")
OFFSET_MASK = (1 << RANK_SHIFT) - 1


@instruction(
    "clusterlaunchcontrol.try_cancel",
    "async [space=shared::cta] mbarrier::complete_tx::bytes [multicast=multicast::cluster::all] b128",
    style="thread",
    section=SECTION,
    targets=TARGETS,
)
def try_cancel(thread: ThreadContext, ins: Instruction, address: int, barrier: int) -> None:
    """Writes the response, and completes 16 bytes at the mbarrier; with multicast at the same offsets of every CTA of
    the cluster."""
    if address % 16:
        raise Fault(f"the response address {address:#x} is not a multiple of 16")
    cluster = thread.cluster
    ranks = range(len(cluster.ctas)) if ins.has("multicast") else (address >> RANK_SHIFT,)
    canceled = cluster.machine.cancel()
    words = (0, 0, 0, 0) if canceled is None else (1, *canceled)
    data = b"".join(word.to_bytes(4, "little") for word in words)

    def effect() -> None:
        for rank in ranks:
            shared, offset = cluster.ctas[rank].shared, address & OFFSET_MASK
            shared.check_write(offset, 16)
            shared.data[offset : offset + 16] = memoryview(data)
            cluster.barrier(rank << RANK_SHIFT | barrier & OFFSET_MASK).complete_tx(16)

    submit(thread, ins, effect)


@instruction(
    "clusterlaunchcontrol.query_cancel.is_canceled",
    "pred b128",
    style="emit",
    operands="1",
    section=SECTION,
    outputs=1,
    targets=TARGETS,
)
def is_canceled(e: Builder, ins: Instruction) -> None:
    low, _ = e.halves(ins.operands[1], 128)
    kind, text = e.kind(low), e.rep(low, "u")
    e.set(ins.operands[0], kind, "b", f"(({text} & 1) != 0)", 1)


FIRST = "clusterlaunchcontrol.query_cancel.get_first_ctaid"


@instruction(FIRST, "v4 b32 b128", style="emit", operands="1", section=SECTION, outputs=1, targets=TARGETS)
@instruction(f"{FIRST}::x", "b32 b128", style="emit", operands="1", section=SECTION, outputs=1, targets=TARGETS)
@instruction(f"{FIRST}::y", "b32 b128", style="emit", operands="1", section=SECTION, outputs=1, targets=TARGETS)
@instruction(f"{FIRST}::z", "b32 b128", style="emit", operands="1", section=SECTION, outputs=1, targets=TARGETS)
def get_first_ctaid(e: Builder, ins: Instruction) -> None:
    low, high = e.halves(ins.operands[1], 128)
    words = [e.halves_of(low)[1], *e.halves_of(high)]
    target = ins.operands[0]
    if isinstance(target, Vector):
        for operand, value in zip(target.items, [*words, Value("U", 32, {"u": "0"})], strict=True):
            if not isinstance(operand, Sink):
                e.put(operand, value)
        return
    e.put(target, words["xyz".index(ins.rule.opcode[-1])])
