"""ldmatrix, stmatrix and mma.sync (PTX ISA 9.7.15)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fp4emu import mma_sync, operands
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import WarpContext
from fp4emu.memory import RANK_SHIFT
from fp4emu.mma_sync import Words
from fp4emu.operands import Element
from fp4emu.products import multiply
from fp4emu.registry import instruction
from fp4emu.values import canonical16, canonical32

OFFSET_MASK = (1 << RANK_SHIFT) - 1
Addresses = npt.NDArray[np.uint32] | int
SPACE = "[shared|shared::cta]"
# The order of the PTX ISA, and those that CUTLASS and DeepGEMM write and ptxas takes.
PLAIN = (
    f"sync aligned shape=m8n8 num=x1|x2|x4 [trans] {SPACE} b16",
    f"sync aligned num=x1|x2|x4 [trans] shape=m8n8 {SPACE} b16",
    f"sync aligned num=x1|x2|x4 shape=m8n8 {SPACE} b16 trans",
    f"sync aligned shape=m8n8 num=x1|x2|x4 {SPACE} b16 trans",
)
BLACKWELL = ("sm_100a", "sm_103a", "sm_120a")


def _full(warp: WarpContext) -> None:
    if warp.active != 0xFFFF_FFFF:
        raise Fault(f"a .sync.aligned instruction with active mask {warp.active:#010x}: the whole warp must execute it")


def _rows(warp: WarpContext, address: Addresses, count: int) -> npt.NDArray[np.int64]:
    """Offsets of the `count` 16-byte rows in the CTA's shared memory."""
    _full(warp)
    found = np.broadcast_to(np.asarray(address, np.int64), 32)[:count]
    if (found % 16).any():
        lane = int(np.flatnonzero(found % 16)[0])
        raise Fault(f"the row address {int(found[lane]):#x} of lane {lane} is not a multiple of 16")
    if (found >> RANK_SHIFT != warp.cta.rank).any():
        raise Fault("a row address lies in another CTA's shared memory")
    return found & OFFSET_MASK


def _read_rows(warp: WarpContext, offsets: npt.NDArray[np.int64], used: int) -> npt.NDArray[np.uint8]:
    shared = warp.cta.shared
    for offset in offsets:
        shared.check_read(int(offset), used)
    return shared.data[offsets[:, None] + np.arange(16)]


@instruction(
    "ldmatrix",
    *PLAIN,
    style="warp",
    section="9.7.15.5.15",
    outputs=1,
)
@instruction(
    "ldmatrix",
    f"sync aligned shape=m16n16 num=x1|x2 trans {SPACE} b8",
    f"sync aligned shape=m16n16 num=x1|x2 trans {SPACE} b8x16 source=b4x16_p64|b6x16_p32",
    f"sync aligned shape=m8n16 num=x1|x2|x4 {SPACE} b8x16 source=b4x16_p64|b6x16_p32",
    style="warp",
    section="9.7.15.5.15",
    outputs=1,
    targets=BLACKWELL,
)
def ldmatrix(warp: WarpContext, ins: Instruction, address: Addresses) -> Words:
    """Rows of shared memory to registers [register, lane]."""
    count, trans = int(ins.mod("num")[1:]), ins.has("trans")
    height, rows, columns = mma_sync.matrix_layout(ins.mod("shape"), count, trans)
    source = ins.mod("source")
    used = 8 if source == "b4x16_p64" else 12 if source else 16
    data = _read_rows(warp, _rows(warp, address, height), used)
    if source:
        data = mma_sync.expand(data, source)
    return np.ascontiguousarray(data[rows, columns]).view(np.uint32)[..., 0]


@instruction(
    "stmatrix",
    *PLAIN,
    style="warp",
    section="9.7.15.5.16",
)
@instruction(
    "stmatrix",
    f"sync aligned shape=m16n8 num=x1|x2|x4 trans {SPACE} b8",
    style="warp",
    section="9.7.15.5.16",
    targets=BLACKWELL,
)
def stmatrix(warp: WarpContext, ins: Instruction, address: Addresses, values: list[Words]) -> None:
    """Registers to rows of shared memory."""
    count, trans = int(ins.mod("num")[1:]), ins.has("trans")
    height, rows, columns = mma_sync.matrix_layout(ins.mod("shape"), count, trans)
    if len(values) != len(rows):
        raise Fault(f"{len(values)} registers where the shape has {len(rows)}")
    words = np.stack([np.broadcast_to(np.asarray(v, np.uint32), 32) for v in values])
    data = np.empty((height, 16), np.uint8)
    data[rows, columns] = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
    shared = warp.cta.shared
    for row, offset in enumerate(_rows(warp, address, height)):
        shared.check_write(int(offset), 16, proxy="generic")
        shared.data[offset : offset + 16] = data[row]


# --- mma.sync ---

_ELEMENTS: dict[str, Element] = {
    "f16": operands.F16,
    "bf16": operands.BF16,
    "tf32": operands.TF32,
    "e4m3": operands.E4M3,
    "e5m2": operands.E5M2,
    "e2m1": operands.E2M1,
    "e2m3": Element("e2m3", 6),
    "e3m2": Element("e3m2", 6),
    "s8": operands.S8,
    "u8": operands.U8,
}
_BYTE = Element("container", 8)
FLOAT8 = "e4m3|e5m2|e2m1|e2m3|e3m2"


def _multiply(
    ins: Instruction, a: list[Words], b: list[Words], scales: tuple[npt.NDArray[np.uint8], ...] = ()
) -> npt.NDArray[np.float64]:
    """A * B as [16, 8] in float64, which holds products, and sums of the integer and narrow types, exactly."""
    depth = int(ins.mod("shape").rpartition("k")[2])
    container = ins.mod("kind") in ("kind::f8f6f4", "kind::mxf8f6f4")
    first, second = _ELEMENTS[ins.mod("a")], _ELEMENTS[ins.mod("b")]
    rows, ks = mma_sync.row_fragment(_BYTE if container else first, depth)
    columns, kb = mma_sync.column_fragment(_BYTE if container else second, depth)
    left = mma_sync.gather(_stack(a, len(rows)), first, rows, ks, 16, depth, container).astype(np.float64)
    right = mma_sync.gather(_stack(b, len(columns)), second, columns, kb, 8, depth, container).astype(np.float64)
    if scales:
        table = operands.scale_table(ins.mod("scale"))
        left = left * np.repeat(table[scales[0]], depth // scales[0].shape[1], axis=1)
        right = right * np.repeat(table[scales[1]], depth // scales[1].shape[1], axis=1)
    return multiply(left, right)


def _stack(values: list[Words], count: int) -> Words:
    if len(values) != count:
        raise Fault(f"{len(values)} registers where the fragment has {count}")
    return np.stack([np.broadcast_to(np.asarray(v, np.uint32), 32) for v in values])


def _finish(product: npt.NDArray[np.float64], c: list[Words], kind: str, saturate: bool = False) -> Words:
    """D = product + C in the layout of the accumulator."""
    rows, columns = mma_sync.accumulator(16, 8)
    part = product[rows, columns]
    if kind == "s32":
        total = part.astype(np.int64) + _stack(c, 4).view(np.int32)
        if saturate:
            total = np.clip(total, -(1 << 31), (1 << 31) - 1)
        return total.astype(np.int32).view(np.uint32)
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "f32":
            return canonical32((part + _stack(c, 4).view(np.float32)).astype(np.float32))
        halves = _stack(c, 2).view(np.uint16).reshape(2, 32, 2).view(np.float16)
        pairs = part.reshape(2, 2, 32).transpose(0, 2, 1)  # [register, lane, half]
        return np.ascontiguousarray(canonical16((pairs + halves).astype(np.float16))).view(np.uint32)[..., 0]


@instruction(
    "mma",
    "sync aligned shape=m16n8k8|m16n8k16 row col d=f32|f16 a=f16 b=f16 c=f32|f16",
    "sync aligned shape=m16n8k8|m16n8k16 row col d=f32 a=bf16 b=bf16 c=f32",
    "sync aligned shape=m16n8k4|m16n8k8 row col d=f32 a=tf32 b=tf32 c=f32",
    "sync aligned shape=m16n8k16|m16n8k32 row col d=f32|f16 a=e4m3|e5m2 b=e4m3|e5m2 c=f32|f16",
    "sync aligned shape=m16n8k16|m16n8k32 row col [satfinite] d=s32 a=s8|u8 b=s8|u8 c=s32",
    style="warp",
    section="9.7.15.5.14",
    outputs=1,
)
@instruction(
    "mma",
    f"sync aligned kind=kind::f8f6f4 shape=m16n8k32 row col d=f32|f16 a={FLOAT8} b={FLOAT8} c=f32|f16",
    f"sync aligned shape=m16n8k32 row col kind=kind::f8f6f4 d=f32|f16 a={FLOAT8} b={FLOAT8} c=f32|f16",
    style="warp",
    section="9.7.15.5.14",
    outputs=1,
    targets=("sm_120a",),
)
def mma(warp: WarpContext, ins: Instruction, a: list[Words], b: list[Words], c: list[Words]) -> Words:
    """D = A * B + C without block scales."""
    _full(warp)
    if ins.mod("d") != ins.mod("c"):
        raise Fault(f"mma with .{ins.mod('d')} D and .{ins.mod('c')} C is not modelled: they must be the same")
    return _finish(_multiply(ins, a, b), c, ins.mod("d"), ins.has("satfinite"))


EIGHT_BIT = f"d=f32 a={FLOAT8} b={FLOAT8} c=f32 scale=ue8m0"
FOUR_BIT = "d=f32 a=e2m1 b=e2m1 c=f32 scale=ue8m0|ue4m3"
VECTORS = "scale_vec::1X|scale_vec::2X|scale_vec::4X|block16|block32"
_COUNTS: dict[tuple[str, str], int] = {
    ("kind::mxf8f6f4", "scale_vec::1X"): 1,
    ("kind::mxf8f6f4", "block32"): 1,
    ("kind::mxf4", "scale_vec::2X"): 2,
    ("kind::mxf4", "block32"): 2,
    ("kind::mxf4nvf4", "scale_vec::2X"): 2,
    ("kind::mxf4nvf4", "block32"): 2,
    ("kind::mxf4nvf4", "scale_vec::4X"): 4,
    ("kind::mxf4nvf4", "block16"): 4,
}


@instruction(
    "mma",
    f"sync aligned kind=kind::mxf8f6f4 block_scale vec={VECTORS} shape=m16n8k32 row col {EIGHT_BIT}",
    f"sync aligned kind=kind::mxf4|kind::mxf4nvf4 block_scale vec={VECTORS} shape=m16n8k64 row col {FOUR_BIT}",
    f"sync aligned shape=m16n8k32 row col kind=kind::mxf8f6f4 block_scale vec={VECTORS} {EIGHT_BIT}",
    f"sync aligned shape=m16n8k64 row col kind=kind::mxf4|kind::mxf4nvf4 block_scale vec={VECTORS} {FOUR_BIT}",
    style="warp",
    section="9.7.15.5.14",
    outputs=1,
    targets=("sm_120a",),
)
def mma_block_scale(
    warp: WarpContext,
    ins: Instruction,
    a: list[Words],
    b: list[Words],
    c: list[Words],
    scale_a: object,
    ids_a: object,
    scale_b: object,
    ids_b: object,
) -> Words:
    """D = (A * scale A) * (B * scale B) + C."""
    _full(warp)
    kind, vec, scale = ins.mod("kind"), ins.mod("vec"), ins.mod("scale")
    count = _COUNTS.get((kind, vec))
    if count is None or (scale == "ue4m3" and count != 4) or (kind == "kind::mxf4" and scale != "ue8m0"):
        raise Fault(f".{kind} with .{vec} and .{scale} scales does not exist")
    byte_a, thread_a = _ids(ids_a, 2)
    byte_b, thread_b = _ids(ids_b, 4)
    rows = mma_sync.scale_rows(_single(scale_a), byte_a, thread_a, count)
    columns = mma_sync.scale_columns(_single(scale_b), byte_b, thread_b, count)
    return _finish(_multiply(ins, a, b, (rows, columns)), c, "f32")


def _single(value: object) -> Words:
    """A register that may be written as `{r}`."""
    word = value[0] if isinstance(value, list | tuple) else value
    return np.broadcast_to(np.asarray(word, np.uint32), 32)


def _ids(value: object, threads: int) -> tuple[int, int]:
    """`{byte-id, thread-id}`, the same in every lane."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise Fault("a scale selector is {byte-id, thread-id}")
    found: list[int] = []
    for item, name in zip(value, ("byte-id", "thread-id"), strict=True):
        lanes = np.broadcast_to(np.asarray(item, np.int64), 32)
        if (lanes != lanes[0]).any():
            raise Fault(f"the {name} differs between the lanes of the warp")
        found.append(int(lanes[0]))
    if not 0 <= found[1] < threads:
        raise Fault(f"thread-id {found[1]} is outside of 0 to {threads - 1}")
    return found[0], found[1]
