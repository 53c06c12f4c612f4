"""tcgen05.mma, tcgen05.mma.ws and tcgen05.commit (PTX ISA 9.7.16.10, "TensorCore 5th generation: MMA").

`.ashift`, sparse matrices and the zero-column mask of `.ws` are not modelled and refused when the PTX is loaded. The
collector modifiers only steer a cache of A or B and have no effect on results.
"""

from __future__ import annotations

from typing import Any

from fp4emu import instruction_descriptor, tmem
from fp4emu.effects import require_live, submit
from fp4emu.errors import Fault
from fp4emu.instruction import Address, Instruction
from fp4emu.machine import ThreadContext
from fp4emu.memory import RANK_SHIFT
from fp4emu.recording import barrier_at, note
from fp4emu.registry import instruction
from fp4emu.tcgen05 import TARGETS, cta_group, pipeline
from fp4emu.umma import Mma

OFFSET_MASK = (1 << RANK_SHIFT) - 1
GROUP = "cta_group=cta_group::1|cta_group::2"
COLLECTOR = "[collector=collector::a::fill|collector::a::use|collector::a::lastuse|collector::a::discard]"
BUFFERS = "|".join(f"collector::b{i}::{use}" for i in range(4) for use in ("fill", "use", "lastuse", "discard"))

_BLOCKS: dict[str, dict[str, int]] = {
    "kind::mxf8f6f4": {"": 32, "scale_vec::1X": 32, "block32": 32},
    "kind::mxf4": {"": 32, "scale_vec::2X": 32, "block32": 32},
    "kind::mxf4nvf4": {"scale_vec::2X": 32, "block32": 32, "scale_vec::4X": 16, "block16": 16},
}


def _submit(thread: ThreadContext, ins: Instruction, mma: Mma, group: int) -> None:
    shape = mma.shape
    note(thread.warp, "mma", shape.m, shape.n, shape.k, group)
    _, column = tmem.split(mma.d)
    if column % 4 and mma.shape.block:
        raise Fault(f"D of a block-scaled MMA starts at column {column}, which is not a multiple of 4")

    def effect() -> None:
        for cta in mma.ctas:
            require_live(cta, "tcgen05.mma")
        mma.run()

    observer, operation = thread.machine.order, None
    if observer is not None:
        operation = observer.begin(thread.warp, thread.lane, ins)
        operation.accumulator = (mma.d, mma.shape.m, mma.shape.n, group)
    submit(thread, ins, effect, order=pipeline(thread.cta, group), operation=operation)


@instruction(
    "tcgen05.mma",
    f"{GROUP} kind=kind::f16|kind::tf32|kind::f8f6f4|kind::i8 {COLLECTOR}",
    style="thread",
    operands="5-7",
    section="9.7.16.10.9.1",
    targets=TARGETS,
)
def mma(thread: ThreadContext, ins: Instruction, d: int, a: int, b: int, idesc: int, *rest: Any) -> None:
    """Dense MMA. `rest` is [{disable-output-lane},] enable-input-d [, scale-input-d]."""
    group = cta_group(thread.cta, ins)
    ctas = thread.cta.pair if group == 2 else (thread.cta,)
    kind = ins.mod("kind").removeprefix("kind::")
    flags = list(rest)
    disabled: tuple[int, ...] = ()
    if isinstance(flags[0], tuple):
        disabled = flags.pop(0)
        if len(disabled) != 4 * group:
            raise Fault(f"disable-output-lane has {len(disabled)} registers; .cta_group::{group} needs {4 * group}")
    shift = int(flags[1]) if len(flags) > 1 else 0
    if shift and kind not in ("f16", "tf32"):
        raise Fault(f"scale-input-d is for kind::f16 and kind::tf32, not kind::{kind}")
    if not 0 <= shift <= 15:
        raise Fault(f"scale-input-d is {shift}; it must be 0 to 15")
    shape = instruction_descriptor.decode(idesc & 0xFFFF_FFFF, kind, group, 0)
    in_tmem = isinstance(ins.operands[1], Address)
    operation = Mma(shape, ctas, d, a, b, in_tmem, bool(flags[0]), scale_d=shift, disabled=disabled)
    _submit(thread, ins, operation, group)


@instruction(
    "tcgen05.mma",
    f"{GROUP} kind=kind::mxf8f6f4|kind::mxf4|kind::mxf4nvf4 block_scale "
    f"[vec=scale_vec::1X|scale_vec::2X|scale_vec::4X|block16|block32] {COLLECTOR}",
    style="thread",
    section="9.7.16.10.9.1",
    targets=TARGETS,
)
def mma_block_scale(
    thread: ThreadContext,
    ins: Instruction,
    d: int,
    a: int,
    b: int,
    idesc: int,
    scale_a: int,
    scale_b: int,
    accumulate: bool,
) -> None:
    """MMA with block scales from tensor memory."""
    group = cta_group(thread.cta, ins)
    ctas = thread.cta.pair if group == 2 else (thread.cta,)
    kind = ins.mod("kind")
    block = _BLOCKS[kind].get(ins.mod("vec"))
    if block is None:
        raise Fault(f".{kind} with .{ins.mod('vec') or '(no scale vector size)'}; it takes {sorted(_BLOCKS[kind])}")
    shape = instruction_descriptor.decode(idesc & 0xFFFF_FFFF, kind.removeprefix("kind::"), group, block)
    if shape.k == 96 and thread.machine.target != "sm_103a":
        raise Fault(f"K = 96 (bit 31 of the instruction descriptor) does not exist on {thread.machine.target}")
    in_tmem = isinstance(ins.operands[1], Address)
    operation = Mma(shape, ctas, d, a, b, in_tmem, bool(accumulate), scale_a=scale_a, scale_b=scale_b)
    _submit(thread, ins, operation, group)


@instruction(
    "tcgen05.mma.ws",
    f"cta_group=cta_group::1 kind=kind::f16|kind::tf32|kind::f8f6f4|kind::i8 [collector={BUFFERS}]",
    style="thread",
    section="9.7.16.10.9.3",
    targets=TARGETS,
)
def mma_ws(thread: ThreadContext, ins: Instruction, d: int, a: int, b: int, idesc: int, accumulate: bool) -> None:
    """Weight-stationary MMA: M 32, 64 or 128, with D spread over all lanes."""
    cta_group(thread.cta, ins)
    kind = ins.mod("kind").removeprefix("kind::")
    shape = instruction_descriptor.decode(idesc & 0xFFFF_FFFF, kind, 1, 0, ws=True)
    in_tmem = isinstance(ins.operands[1], Address)
    _submit(thread, ins, Mma(shape, (thread.cta,), d, a, b, in_tmem, bool(accumulate), ws=True), 1)


@instruction(
    "tcgen05.commit",
    f"{GROUP} mbarrier::arrive::one [shared::cluster] [multicast=multicast::cluster] b64",
    style="thread",
    operands="1+multicast",
    section="9.7.16.12.1",
    targets=TARGETS,
)
def commit(thread: ThreadContext, ins: Instruction, barrier: int, mask: int = 0) -> None:
    """One arrival, at the barrier or its copies in the CTAs of `mask`, when all earlier tcgen05 work has completed."""
    group = cta_group(thread.cta, ins)
    cluster = thread.cluster
    addresses = [barrier]
    if ins.has("multicast"):
        ranks = [r for r in range(16) if mask >> r & 1]
        if not ranks or ranks[-1] >= len(cluster.ctas):
            raise Fault(f"multicast mask {mask:#x} does not select CTAs of a cluster of {len(cluster.ctas)}")
        addresses = [r << RANK_SHIFT | barrier & OFFSET_MASK for r in ranks]
    for address in addresses:
        cluster.barrier(address)
    note(thread.warp, "commit", tuple(barrier_at(address) for address in addresses))

    def effect() -> None:
        for address in addresses:
            require_live(cluster.ctas[address >> RANK_SHIFT], "the arrival of tcgen05.commit")
            cluster.barrier(address).arrive()

    submit(thread, ins, effect, order=pipeline(thread.cta, group))
