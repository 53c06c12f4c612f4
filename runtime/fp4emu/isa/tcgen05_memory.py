"""Tensor memory: tcgen05.alloc, dealloc, relinquish_alloc_permit, ld, st, wait, fence, cp (PTX ISA 9.7.16, "TensorCore
5th generation").

Not modelled, and therefore refused when the PTX is loaded: tcgen05.shift and tcgen05.ld.red, whose exact effect the PTX
ISA shows only in figures that no published layout confirms.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fp4emu import descriptors, operands, tmem
from fp4emu.effects import require_live, submit
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cta, ThreadContext, WarpContext
from fp4emu.memory import RANK_SHIFT
from fp4emu.recording import note
from fp4emu.registry import Wait, instruction
from fp4emu.tcgen05 import TARGETS, cta_group, pipeline

OFFSET_MASK = (1 << RANK_SHIFT) - 1
LaneValues = npt.NDArray[np.uint32] | int
GROUP = "cta_group=cta_group::1|cta_group::2"
NUM = "num=x1|x2|x4|x8|x16|x32|x64|x128"
SHAPES = "shape=32x32b|16x64b|16x128b|16x256b|16x32bx2"
MAX_REPEAT = {"32x32b": 128, "16x64b": 128, "16x128b": 64, "16x256b": 32, "16x32bx2": 128}


def uniform(warp: WarpContext, value: LaneValues, what: str) -> int:
    """The value that all 32 lanes share; `.sync.aligned` needs the whole warp."""
    if warp.active != 0xFFFF_FFFF:
        raise Fault(f"a .sync.aligned instruction with active mask {warp.active:#010x}: the whole warp must execute it")
    if isinstance(value, int):
        return value
    if (value != value[0]).any():
        raise Fault(f"{what} differs between the lanes of the warp")
    return int(value[0])


@instruction(
    "tcgen05.alloc",
    f"{GROUP} sync aligned [shared::cta] b32",
    style="warp",
    section="9.7.16.7.1",
    blocking=True,
    targets=TARGETS,
)
def alloc(warp: WarpContext, ins: Instruction, dst: LaneValues, columns: LaneValues) -> Wait | None:
    """Waits for a free range of columns and writes its address to shared memory."""
    cta_group(warp.cta, ins)
    count, address = uniform(warp, columns, "nCols"), uniform(warp, dst, "the destination")
    tmem.check_count(count)
    memory = warp.cta.tensor
    if not memory.permit:
        raise Fault(
            "tcgen05.alloc after this CTA gave up its right to allocate", hint="tcgen05.relinquish_alloc_permit"
        )
    start = tmem.find_free(memory, count)
    if start is None:
        return Wait(
            lambda: tmem.find_free(memory, count) is not None,
            lambda: f"tcgen05.alloc of {count} columns; held: {memory.allocations}",
        )
    tmem.allocate(memory, start, count)
    if _all_deallocated not in warp.cta.at_exit:
        warp.cta.at_exit.append(_all_deallocated)
    offset = address & OFFSET_MASK
    warp.cta.shared.check_write(offset, 4)
    warp.cta.shared.data[offset : offset + 4] = np.frombuffer(start.to_bytes(4, "little"), np.uint8)
    return None


def _all_deallocated(cta: Cta) -> None:
    """Faults if a CTA that has ended holds tensor memory."""
    if cta.tensor.allocations:
        held = ", ".join(f"{size} columns at {start}" for start, size in sorted(cta.tensor.allocations.items()))
        raise Fault(f"CTA {cta.id} exited with tensor memory allocated: {held}", hint="tcgen05.dealloc all of it")


@instruction("tcgen05.dealloc", f"{GROUP} sync aligned b32", style="warp", section="9.7.16.7.1", targets=TARGETS)
def dealloc(warp: WarpContext, ins: Instruction, address: LaneValues, columns: LaneValues) -> None:
    """Frees what one alloc gave."""
    cta_group(warp.cta, ins)
    tmem.deallocate(warp.cta.tensor, uniform(warp, address, "the address"), uniform(warp, columns, "nCols"))


@instruction(
    "tcgen05.relinquish_alloc_permit", f"{GROUP} sync aligned", style="warp", section="9.7.16.7.1", targets=TARGETS
)
def relinquish(warp: WarpContext, ins: Instruction) -> None:
    """The CTA may not allocate any more."""
    cta_group(warp.cta, ins)
    warp.cta.tensor.permit = False


def _repeat(ins: Instruction) -> int:
    shape, repeat = ins.mod("shape"), int(ins.mod("num")[1:])
    if repeat > MAX_REPEAT[shape]:
        raise Fault(f".{shape} takes at most .x{MAX_REPEAT[shape]}")
    return repeat


@instruction(
    "tcgen05.ld",
    f"sync aligned {SHAPES} {NUM} [pack=pack::16b] b32",
    style="warp",
    operands="1-2",
    section="9.7.16.8.3",
    outputs=1,
    targets=TARGETS,
)
def load(warp: WarpContext, ins: Instruction, address: LaneValues, split: int = 0) -> npt.NDArray[np.uint32]:
    """Cells of tensor memory to registers [register, lane]."""
    part = tmem.fragment(ins.mod("shape"), _repeat(ins), split)
    return tmem.load(warp.cta.tensor, uniform(warp, address, "the address"), warp.index, part, ins.has("pack"))


@instruction(
    "tcgen05.st",
    f"sync aligned {SHAPES} {NUM} [unpack=unpack::16b] b32",
    style="warp",
    operands="2-3",
    section="9.7.16.8.4",
    targets=TARGETS,
)
def store(warp: WarpContext, ins: Instruction, address: LaneValues, *rest: object) -> None:
    """Registers to cells of tensor memory. `rest` is [split,] registers."""
    split = rest[0] if len(rest) == 2 else 0
    values = np.stack([np.broadcast_to(np.asarray(v, np.uint32), 32) for v in rest[-1]])  # type: ignore[union-attr]
    part = tmem.fragment(ins.mod("shape"), _repeat(ins), int(split))  # type: ignore[call-overload]
    if len(values) != len(part.column):
        raise Fault(f"{len(values)} registers where the shape has {len(part.column)}")
    tmem.store(warp.cta.tensor, uniform(warp, address, "the address"), warp.index, part, ins.has("unpack"), values)


@instruction("tcgen05.wait::ld", "sync aligned", style="warp", section="9.7.16.8.5", targets=TARGETS)
@instruction("tcgen05.wait::st", "sync aligned", style="warp", section="9.7.16.8.5", targets=TARGETS)
def wait(warp: WarpContext, ins: Instruction) -> None:
    """Loads and stores of tensor memory take effect where they are issued, so there is nothing to wait for."""
    uniform(warp, 0, "")


@instruction("tcgen05.fence::before_thread_sync", "", style="warp", section="9.7.16.11.1", targets=TARGETS)
@instruction("tcgen05.fence::after_thread_sync", "", style="warp", section="9.7.16.11.1", targets=TARGETS)
def fence(warp: WarpContext, ins: Instruction) -> None:
    """Orders tcgen05 operations of a thread; execution here is in order already."""


# --- tcgen05.cp ---

# Shape and multicast -> (rows, 16-byte chunks a row, [(first row, number of rows, destination lanes)]).
_Part = tuple[int, int, int]
_COPIES: dict[str, tuple[int, int, tuple[_Part, ...]]] = {
    "128x256b": (128, 2, ((0, 128, 0),)),
    "128x128b": (128, 1, ((0, 128, 0),)),
    "4x256b": (4, 2, ((0, 1, 0), (1, 1, 32), (2, 1, 64), (3, 1, 96))),
    "64x128b.warpx2::02_13": (64, 1, ((0, 64, 0), (0, 64, 64))),
    "64x128b.warpx2::01_23": (64, 1, ((0, 32, 0), (0, 32, 32), (32, 32, 64), (32, 32, 96))),
    "32x128b.warpx4": (32, 1, ((0, 32, 0), (0, 32, 32), (0, 32, 64), (0, 32, 96))),
}


_FORMATS = ("", " to=b8x16 source=b6x16_p32|b4x16_p64")
_USED = {"b4x16_p64": 8, "b6x16_p32": 12}
"""Bytes of a chunk of 16 that hold its 16 elements; padding follows (PTX ISA 9.7.16.9.1, "Optional Decompression")."""


@instruction(
    "tcgen05.cp",
    *(f"{GROUP} shape=128x256b|128x128b|4x256b{way}" for way in _FORMATS),
    *(f"{GROUP} shape=64x128b multicast=warpx2::02_13|warpx2::01_23{way}" for way in _FORMATS),
    *(f"{GROUP} shape=32x128b multicast=warpx4{way}" for way in _FORMATS),
    style="thread",
    section="9.7.16.9.2",
    targets=TARGETS,
)
def copy(thread: ThreadContext, ins: Instruction, address: int, descriptor: int) -> None:
    """Shared to tensor memory, in order with the tcgen05.mma of the same CTA or CTA pair. With a source format, each
    chunk of 16 bytes holds 16 padded elements, which become bytes."""
    group = cta_group(thread.cta, ins)
    ctas = thread.cta.pair if group == 2 else (thread.cta,)
    key = ".".join(filter(None, (ins.mod("shape"), ins.mod("multicast"))))
    source, form = descriptors.tcgen05_descriptor(descriptor), ins.mod("source")
    note(thread.warp, "tmem copy")

    def effect() -> None:
        for cta in ctas:
            require_live(cta, "tcgen05.cp")
            _copy(cta, key, address, source, form)

    submit(thread, ins, effect, order=pipeline(thread.cta, group))


def _copy(cta: Cta, key: str, address: int, source: descriptors.MatrixDescriptor, form: str | None) -> None:
    rows, chunks, parts = _COPIES[key]
    lane, column = tmem.split(address)
    if lane and key != "4x256b":
        raise Fault(f"tcgen05.cp.{key} starts at lane {lane}; it must be lane 0")
    tmem.check_columns(cta.tensor, column, 4 * chunks, "tcgen05.cp")
    where = descriptors.k_major_chunks(source, rows, chunks)
    packed = descriptors.gather_chunks(cta.shared, where, _USED.get(form or "", 16))
    data = (operands.contained(packed, _USED[form] // 2) if form else packed).reshape(rows, -1).view(np.uint32)
    columns = slice(column, column + 4 * chunks)
    if key == "32x128b.warpx4":
        if cta.tensor.touch is not None:
            cta.tensor.touch((slice(None), columns), True)
        cta.tensor.data.reshape(4, 32, -1)[:, :, columns] = data
        cta.tensor.written[:, columns] = True
        return
    for first, count, target in parts:
        lanes = slice(lane + target, lane + target + count)
        if cta.tensor.touch is not None:
            cta.tensor.touch((lanes, columns), True)
        cta.tensor.data[lanes, columns] = data[first : first + count]
        cta.tensor.written[lanes, columns] = True
