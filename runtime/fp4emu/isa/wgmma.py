"""Asynchronous warpgroup matrix multiply-accumulate: wgmma (PTX ISA 9.7.15.7, "Asynchronous Warpgroup Level MMA").

Each warp of a warpgroup computes the 16 rows of D that its registers hold. The multiplication happens where it is
issued: registers have no completion mechanism that could be delayed, so a missing wgmma.wait_group is not found.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from fp4emu import descriptors, mma_sync, operands
from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import WarpContext
from fp4emu.mma_sync import Words
from fp4emu.operands import Element, Floats
from fp4emu.order import wgmma as wgmma_order
from fp4emu.products import multiply
from fp4emu.registry import instruction
from fp4emu.values import canonical16, canonical32

TARGETS = ("sm_90a",)
SECTION = "9.7.15.7.1"
ROWS = 16


def _shapes(depth: int, step: int = 8) -> str:
    return "shape=" + "|".join(f"m64n{n}k{depth}" for n in range(step, 257, step))


_INTEGER_N = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256)
_INTEGER_SHAPES = "shape=" + "|".join(f"m64n{n}k32" for n in _INTEGER_N)

_ELEMENTS: dict[str, Element] = {
    "f16": operands.F16,
    "bf16": operands.BF16,
    "tf32": operands.TF32,
    "e4m3": operands.E4M3,
    "e5m2": operands.E5M2,
    "s8": operands.S8,
    "u8": operands.U8,
}


@instruction(
    "wgmma.mma_async",
    f"sync aligned {_shapes(16)} d=f32|f16 a=f16 b=f16",
    f"sync aligned {_shapes(16)} d=f32 a=bf16 b=bf16",
    f"sync aligned {_shapes(8)} d=f32 a=tf32 b=tf32",
    f"sync aligned {_shapes(32)} d=f32|f16 a=e4m3|e5m2 b=e4m3|e5m2",
    f"sync aligned {_INTEGER_SHAPES} [satfinite] d=s32 a=s8|u8 b=s8|u8",
    style="warp",
    operands="4-8",
    section=SECTION,
    outputs=1,
    inout=True,
    targets=TARGETS,
)
def mma_async(
    warp: WarpContext, ins: Instruction, d: list[Words], a: object, b: object, accumulate: object, *flags: object
) -> Words:
    """D = A * B (+ D). `flags` are [scale A, scale B [, transpose A], transpose B], by operand types."""
    if warp.active != 0xFFFF_FFFF:
        raise Fault(f"wgmma with active mask {warp.active:#010x}: the whole warp must execute it")
    first, second = _ELEMENTS[ins.mod("a")], _ELEMENTS[ins.mod("b")]
    width, depth = (int(x) for x in ins.mod("shape").removeprefix("m64n").split("k"))
    in_registers = isinstance(a, list | tuple)
    signs, transpose_a, transpose_b = _flags(ins, [_uniform(f) for f in flags], in_registers, first)
    observer = warp.machine.order
    operation = None if observer is None else wgmma_order.begin(observer, warp, ins)
    read = partial(_operands, warp, a, b, first, second, (width, depth), (transpose_a, transpose_b))
    left, right = read() if observer is None else observer.act(operation, read)
    if signs != (1, 1):
        left, right = left * np.float32(signs[0]), right * np.float32(signs[1])
    return _result(left, right, d, ins, bool(_uniform(accumulate)), width)


def _operands(
    warp: WarpContext,
    a: object,
    b: object,
    first: Element,
    second: Element,
    size: tuple[int, int],
    transposed: tuple[bool, bool],
) -> tuple[Floats, Floats]:
    """The warp's rows of A, and B. `size` is (N, K)."""
    width, depth = size
    if isinstance(a, list | tuple):
        left = _from_registers(a, first, depth)  # type: ignore[arg-type]
    else:
        part = ROWS * (warp.index % 4)
        left = _from_shared(warp, _uniform(a), 64, depth, first, transposed[0])[part : part + ROWS]
    return left, _from_shared(warp, _uniform(b), width, depth, second, transposed[1])


def _uniform(value: object) -> int:
    if isinstance(value, np.ndarray):
        if (value != value[0]).any():
            raise Fault("an operand of wgmma differs between the lanes of the warp")
        return int(value[0])
    return int(value)  # type: ignore[call-overload]


def _flags(
    ins: Instruction, flags: list[int], in_registers: bool, element: Element
) -> tuple[tuple[int, int], bool, bool]:
    """((scale A, scale B), transpose A, transpose B); integer kinds take none, 8- and 32-bit kinds no transposition."""
    transposable = element.bits == 16
    expected = 0 if ins.mod("d") == "s32" else 2 + (0 if not transposable else 1 if in_registers else 2)
    if len(flags) != expected:
        raise Fault(f"{len(flags)} immediate flags where this form of wgmma has {expected}")
    if not flags:
        return (1, 1), False, False
    signs = tuple((f & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31) for f in flags[:2])
    if any(s not in (1, -1) for s in signs) or any(f not in (0, 1) for f in flags[2:]):
        raise Fault(f"wgmma flags {flags}: scales are 1 or -1, transpositions 0 or 1")
    transpose_a = bool(flags[2]) if len(flags) == 4 else False
    return (signs[0], signs[1]), transpose_a, bool(flags[-1]) if transposable else False


def _from_registers(a: list[Words], element: Element, depth: int) -> Floats:
    rows, ks = mma_sync.row_fragment(element, depth)
    if len(a) != len(rows):
        raise Fault(f"A has {len(a)} registers where the fragment has {len(rows)}")
    words = np.stack([np.asarray(register, np.uint32) for register in a])
    return mma_sync.gather(words, element, rows, ks, ROWS, depth, container=False)


def _from_shared(warp: WarpContext, value: int, rows: int, depth: int, element: Element, transposed: bool) -> Floats:
    descriptor = descriptors.wgmma_descriptor(value)
    if transposed:
        size = element.bits // 8
        data = descriptors.gather_elements(
            warp.cta.shared, descriptors.mn_major_bytes(descriptor, rows, depth, size), size
        )
        return operands.decode_bytes(data.reshape(rows, -1), element)
    chunks = descriptors.k_major_chunks(descriptor, rows, depth // element.per_chunk)
    return operands.decode_chunks(descriptors.gather_chunks(warp.cta.shared, chunks), element)


def _result(left: Floats, right: Floats, d: list[Words], ins: Instruction, accumulate: bool, width: int) -> Words:
    rows, columns = mma_sync.accumulator(ROWS, width)
    kind = ins.mod("d")
    expected = len(rows) // 2 if kind == "f16" else len(rows)
    if len(d) != expected:
        raise Fault(f"D has {len(d)} registers where m64n{width} with .{kind} has {expected}")
    old = np.stack([np.asarray(register, np.uint32) for register in d])
    if kind == "s32":
        total = multiply(left.astype(np.float64), right.astype(np.float64))[rows, columns].astype(np.int64)
        if accumulate:
            total = total + old.view(np.int32)
        if ins.has("satfinite"):
            total = np.clip(total, -(1 << 31), (1 << 31) - 1)
        return total.astype(np.int32).view(np.uint32)
    with np.errstate(over="ignore", invalid="ignore"):
        product: npt.NDArray[np.float32] = multiply(left, right)[rows, columns]
        if kind == "f32":
            return canonical32(product + old.view(np.float32) if accumulate else product)
        pairs = product.reshape(expected, 2, 32).transpose(0, 2, 1)
        if accumulate:
            pairs = pairs + np.ascontiguousarray(old).view(np.float16).reshape(expected, 32, 2)
        return np.ascontiguousarray(canonical16(pairs.astype(np.float16))).view(np.uint32)[..., 0]


@instruction("wgmma.fence", "sync aligned", style="warp", section="9.7.15.7.2.1", targets=TARGETS)
def fence(warp: WarpContext, ins: Instruction) -> None:
    """Orders register accesses; execution here is in order already."""
    if warp.machine.order is not None:
        wgmma_order.fence(warp)


@instruction("wgmma.commit_group", "sync aligned", style="warp", section="9.7.15.7.3.1", targets=TARGETS)
def commit(warp: WarpContext, ins: Instruction) -> None:
    """Groups operations; execution here is in order already."""
    if warp.machine.order is not None:
        wgmma_order.commit(warp)


@instruction("wgmma.wait_group", "sync aligned", style="warp", section="9.7.15.7.3.2", targets=TARGETS)
def wait_group(warp: WarpContext, ins: Instruction, pending: object) -> None:
    """Operations complete where they are issued, so there is nothing to wait for."""
    if warp.machine.order is not None:
        wgmma_order.wait(warp.machine.order, warp, _uniform(pending))
