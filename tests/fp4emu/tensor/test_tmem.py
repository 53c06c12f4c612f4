"""Tensor memory: register layouts against CuTe's published traits, allocation, tcgen05.cp against its ValID layouts."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from fp4emu import Fault, descriptors, tmem
from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, Cta, ThreadContext, WarpContext
from fp4emu.memory import TensorMemory

# CuTe's Copy_Traits<SM100_TMEM_LOAD_*>::DstLayout for repeat N (W bits a lane): (thread shape, stride), (value shape,
# stride).
Flat = tuple[tuple[int, ...], tuple[int, ...]]


def traits(shape: str, n: int) -> tuple[int, Flat, Flat]:
    if shape == "32x32b":
        return 32 * n, ((32,), (32 * n,)), ((32 * n,), (1,))
    if shape == "16x64b":
        w = 64 * n
        return w, ((2, 2, 8), (8 * w, 32, w)), ((32, n), (1, 64))
    if shape == "16x128b":
        w = 128 * n
        return w, ((4, 8), (32, w)), ((32, 2, n), (1, 8 * w, 128))
    if shape == "16x256b":
        w = 256 * n
        return w, ((4, 8), (64, w)), ((64, 2, n), (1, 8 * w, 256))
    w = 64 * n  # 16x32bx2, whose halves CuTe lets follow each other
    return w, ((16, 2), (w, 32 * n)), ((32 * n,), (1,))


def cute(layout: Flat, index: int) -> int:
    out = 0
    for extent, step in zip(*layout, strict=True):
        out += index % extent * step
        index //= extent
    return out


@pytest.mark.parametrize("shape", ["32x32b", "16x64b", "16x128b", "16x256b", "16x32bx2"])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_fragments_are_cutes(shape: str, n: int) -> None:
    width, thread, value = traits(shape, n)
    part = tmem.fragment(shape, n, n if shape == "16x32bx2" else 0)
    registers = int(np.prod(value[0])) // 32
    assert part.lane.shape == (registers, 32)
    for register, lane in itertools.product(range(registers), range(32)):
        bit = cute(thread, lane) + cute(value, 32 * register)
        assert (part.lane[register, lane], part.column[register, lane]) == (bit // width, bit % width // 32)


@pytest.fixture
def memory() -> TensorMemory:
    found = TensorMemory()
    tmem.allocate(found, 0, 256)
    return found


def test_load_store_and_packing(memory: TensorMemory) -> None:
    rng = np.random.default_rng(0)
    for shape, warp, lane in [("32x32b", 1, 32), ("16x256b", 6, 64 + 16), ("16x64b", 3, 96)]:
        part = tmem.fragment(shape, 4)
        values = rng.integers(0, 1 << 32, part.lane.shape, np.uint64).astype(np.uint32)
        address = lane << 16 | 40
        tmem.store(memory, address, warp, part, False, values)
        assert (tmem.load(memory, address, warp, part, False) == values).all()
        tmem.store(memory, address, warp, part, True, values)
        assert (tmem.load(memory, address, warp, part, True) == values).all()
        low = memory.data[lane + part.lane, 40 + 2 * part.column]
        high = memory.data[lane + part.lane, 41 + 2 * part.column]
        assert (low == values & 0xFFFF).all() and (high == values >> 16).all()


def test_lane_zero_means_the_lanes_of_the_warp(memory: TensorMemory) -> None:
    part = tmem.fragment("32x32b", 2)
    values = np.arange(64, dtype=np.uint32).reshape(2, 32)
    tmem.store(memory, 5, 6, part, False, values)
    assert (values == memory.data[64:96, 5:7].T).all() and memory.written.sum() == 64
    assert (tmem.load(memory, 64 << 16 | 5, 2, part, False) == values).all()


def test_faults(memory: TensorMemory) -> None:
    part = tmem.fragment("32x32b", 4)
    with pytest.raises(Fault, match="never written"):
        tmem.load(memory, 0, 0, part, False)
    with pytest.raises(Fault, match="lane 32: it may only start at lane 0"):
        tmem.load(memory, 32 << 16, 0, part, False)
    with pytest.raises(Fault, match="not allocated"):
        tmem.load(memory, 254, 0, part, False)
    with pytest.raises(Fault, match="512 columns"):
        tmem.load(memory, 510, 0, part, False)
    with pytest.raises(Fault, match="outside of 128 x 512"):
        tmem.split(128 << 16)


def warp(cta: Cta, index: int = 0) -> WarpContext:
    return WarpContext(cta, index)


def test_allocation(cluster: Callable[..., Cluster], instruction: Callable[..., Instruction]) -> None:
    cta = cluster().ctas[0]
    alloc = instruction("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32")
    free = instruction("tcgen05.dealloc.cta_group::1.sync.aligned.b32")
    for slot, count in enumerate((32, 64, 256)):
        assert alloc.rule.handler(warp(cta), alloc, 2048 + 4 * slot, count) is None
    addresses = cta.shared.data[2048:2060].view(np.uint32).tolist()
    assert addresses == [0, 32, 96]
    with pytest.raises(Fault, match="powers of two"):
        alloc.rule.handler(warp(cta), alloc, 2048, 48)
    waiting = alloc.rule.handler(warp(cta), alloc, 2064, 256)
    assert waiting is not None and not waiting.ready()
    with pytest.raises(Fault, match="allocated: 32 at column 0"):
        free.rule.handler(warp(cta), free, 96, 128)
    free.rule.handler(warp(cta), free, 96, 256)
    assert waiting.ready()
    other = instruction("tcgen05.relinquish_alloc_permit.cta_group::2.sync.aligned")
    with pytest.raises(Fault, match="used .cta_group::1 before"):
        other.rule.handler(warp(cta), other)
    give_up = instruction("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned")
    give_up.rule.handler(warp(cta), give_up)
    with pytest.raises(Fault, match="gave up its right"):
        alloc.rule.handler(warp(cta), alloc, 2048, 32)


# CuTe's Copy_Traits<SM100_UTCCP_*>: ValID maps (row, bit, copies ...) to (lane, bit); the first two modes are the
# source.
VALUES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "128x256b": ((128, 256), (1 << 10, 1)),
    "128x128b": ((128, 128), (1 << 10, 1)),
    "32x128b.warpx4": ((32, 128, 4), (1 << 10, 1, 32 << 10)),
    "64x128b.warpx2::02_13": ((64, 128, 2), (1 << 10, 1, 64 << 10)),
    "64x128b.warpx2::01_23": ((32, 128, 2, 2), (1 << 10, 1, 64 << 10, 32 << 10)),
}


@pytest.mark.parametrize("shape", VALUES)
def test_copy_from_shared_memory_is_cutes(
    shape: str, cluster: Callable[..., Cluster], instruction: Callable[..., Instruction]
) -> None:
    cta = cluster().ctas[0]
    tmem.allocate(cta.tensor, 0, 32)
    source = np.random.default_rng(1).integers(0, 256, 4096).astype(np.uint8)
    cta.shared.check_write(2048, len(source))
    cta.shared.data[2048 : 2048 + len(source)] = source
    # Core matrices of 8 rows x 16 bytes: rows follow in 128-byte groups, the second 16 bytes of a row 2048 bytes on.
    descriptor = 2048 >> 4 | (2048 >> 4) << 16 | (128 >> 4) << 32 | 1 << 46
    ins = instruction(f"tcgen05.cp.cta_group::1.{shape}")
    ins.rule.handler(ThreadContext(warp(cta), 0), ins, 4, descriptor)
    written = np.zeros((128, 512), bool)
    extents, steps = VALUES[shape]
    repeat = int(shape.endswith("01_23"))
    for index in np.ndindex(*extents):
        if index[1] % 32:
            continue
        place = sum(i * s for i, s in zip(index, steps, strict=True))
        lane, column = place >> 10, 4 + (place & 1023) // 32
        row = index[0] + (32 * index[2] if repeat else 0)
        byte = row * 16 + index[1] // 8 % 16 + (2048 if index[1] >= 128 else 0)
        assert cta.tensor.data[lane, column] == source[byte : byte + 4].view(np.uint32)[0]
        written[lane, column] = True
    assert (cta.tensor.written == written).all()


@pytest.mark.parametrize(("source", "bits", "shift"), [("b4x16_p64", 4, 2), ("b6x16_p32", 6, 0)])
def test_copy_decompresses(
    source: str, bits: int, shift: int, cluster: Callable[..., Cluster], instruction: Callable[..., Instruction]
) -> None:
    """16 elements of 4 or 6 bits, and 8 or 4 bytes of padding that nobody needs to have written, become 16 bytes."""
    cta = cluster().ctas[0]
    tmem.allocate(cta.tensor, 0, 32)
    random = np.random.default_rng(3)
    rows = 32
    for row in range(rows):
        packed = random.integers(0, 256, 2 * bits).astype(np.uint8)
        place = 2048 + 16 * row
        cta.shared.check_write(place, len(packed))
        cta.shared.data[place : place + len(packed)] = packed
    ins = instruction(f"tcgen05.cp.cta_group::1.32x128b.warpx4.b8x16.{source}")
    ins.rule.handler(ThreadContext(warp(cta), 0), ins, 8, 2048 >> 4 | (128 >> 4) << 32 | 1 << 46)
    for row, element in np.ndindex(rows, 16):
        whole = int.from_bytes(cta.shared.data[2048 + 16 * row : 2064 + 16 * row].tobytes(), "little")
        code = whole >> (bits * element) & ((1 << bits) - 1)
        for copy in range(4):
            cells = cta.tensor.data[32 * copy + row, 8:12].view(np.uint8)
            assert cells[element] == code << shift


def test_copy_reads_only_written_shared_memory(cluster: Callable[..., Cluster]) -> None:
    cta = cluster().ctas[0]
    where = descriptors.k_major_chunks(descriptors.tcgen05_descriptor(2048 >> 4 | 8 << 32 | 1 << 46), 8, 1)
    with pytest.raises(Fault, match="never written"):
        descriptors.gather_chunks(cta.shared, where)
