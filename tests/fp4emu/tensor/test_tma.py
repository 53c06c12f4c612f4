"""TMA boxes: against what a Hopper GPU did, and against loops over the documented coordinates."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fp4num
from fp4emu import Fault, tma
from fp4emu.machine import Cluster
from fp4emu.memory import READ_ONLY, SHARED_RESERVED, GlobalMemory
from fp4emu.swizzle import Swizzle, swizzle
from fp4emu.tensormap import DataType, OobFill, TensorMap

WINDOW, GLOBAL = 64 << 10, 256 << 10
Mix = Callable[[int, int], np.ndarray]


def test_boxes_equal_what_a_hopper_gpu_did(
    data: Callable[[str], Any], cluster: Callable[..., Cluster], mix: Mix
) -> None:
    tensor, window = mix(GLOBAL, 1), mix(WINDOW, 2)
    for op, dtype, dims, strides, box, steps, mode, fill, coordinates, offset, digest in data("hopper_tma")["tma"]:
        world = cluster()
        memory, shared = world.machine.memory, world.ctas[0].shared
        address = memory.allocate(GLOBAL)
        memory.write(address, tensor.tobytes())
        shared.check_write(SHARED_RESERVED, WINDOW)
        shared.data[SHARED_RESERVED : SHARED_RESERVED + WINDOW] = window
        tmap = TensorMap(
            DataType(dtype),
            address,
            tuple(dims),
            tuple(strides),
            tuple(box),
            tuple(steps),
            swizzle=Swizzle(mode),
            oob_fill=OobFill(fill),
        )
        where = tuple(coordinates)
        if op == "load":
            tma.place_box(shared, SHARED_RESERVED + offset, tmap, tma.read_box(memory, tmap, where))
            found = shared.data[SHARED_RESERVED : SHARED_RESERVED + WINDOW].tobytes()
        else:
            packed = tma.fetch_box(shared, SHARED_RESERVED + offset, tmap)
            if op == "store":
                tma.write_box(memory, tmap, where, packed)
            else:
                tma.reduce_box(memory, tmap, where, packed, op)
            found = memory.read(address, GLOBAL)
        assert hashlib.sha256(found).hexdigest()[:16] == digest, (op, tmap, where)


def _brute_load(
    tensor: np.ndarray, start: int, tmap: TensorMap, coordinates: tuple[int, ...], base: int
) -> dict[int, int]:
    """Shared byte address -> value, element by element, for byte-sized types."""
    size = tmap.bits // 8
    out: dict[int, int] = {}
    pitch = max(tmap.counts[0] * size, {0: 0, 1: 32, 2: 64}.get(int(tmap.swizzle), 128))
    for index in itertools.product(*(range(c) for c in reversed(tmap.counts))):
        i = tuple(reversed(index))
        row = 0
        for axis in range(tmap.rank - 1, 0, -1):
            row = row * tmap.counts[axis] + i[axis]
        place = [c + k * s for c, k, s in zip(coordinates, i, tmap.element_strides, strict=True)]
        inside = all(0 <= p < d for p, d in zip(place, tmap.dims, strict=True))
        source = start + place[0] * size + sum(p * s for p, s in zip(place[1:], tmap.strides, strict=True))
        for byte in range(size):
            target = int(swizzle(np.array(base + row * pitch + i[0] * size + byte), tmap.swizzle))
            out[target] = int(tensor[source + byte]) if inside else 0
    return out


@pytest.mark.parametrize("mode", Swizzle)
def test_every_swizzle_against_loops(mode: Swizzle, cluster: Callable[..., Cluster], mix: Mix) -> None:
    world = cluster()
    memory, shared = world.machine.memory, world.ctas[0].shared
    tensor = mix(20000, 3)
    address = memory.allocate(len(tensor))
    memory.write(address, tensor.tobytes())
    inner = {Swizzle.B32: 16, Swizzle.B64: 32}.get(mode, 64)
    tmap = TensorMap(DataType.U16, address, (80, 7, 5), (160, 1600), (inner, 4, 3), (1, 1, 2), swizzle=mode)
    for coordinates, base in itertools.product([(0, 0, 0), (64, -2, 1), (-8, 5, 3)], [2048, 2048 + 128 * 3]):
        tma.place_box(shared, base, tmap, tma.read_box(memory, tmap, coordinates))
        for target, value in _brute_load(tensor, 0, tmap, coordinates, base).items():
            assert shared.data[target] == value


@pytest.mark.parametrize(
    ("dtype", "bits", "used"), [(DataType.B4X16, 4, 16), (DataType.B4X16_P64, 4, 8), (DataType.B6X16_P32, 6, 12)]
)
def test_sub_byte_boxes(dtype: DataType, bits: int, used: int, cluster: Callable[..., Cluster]) -> None:
    world = cluster()
    memory, shared = world.machine.memory, world.ctas[0].shared
    codes = np.random.default_rng(1).integers(0, 1 << bits, (20, 256)).astype(np.uint8)
    packed = fp4num.pack(codes, bits)
    address = memory.allocate(packed.nbytes)
    memory.write(address, packed)
    tmap = TensorMap(dtype, address, (256, 20), (256 * bits // 8,), (128, 8), swizzle=Swizzle.B128)
    assert tmap.transaction_bytes == 128 * 8 * bits // 8
    tma.place_box(shared, 2048, tmap, tma.read_box(memory, tmap, (128, 16)))
    per = 32 if used == 16 else 16
    for row, group in itertools.product(range(8), range(128 // per)):
        pitch = 128
        start = int(swizzle(np.array(2048 + row * pitch + group * 16), Swizzle.B128))
        stored = fp4num.unpack(shared.data[start : start + used], bits)
        expected = codes[16 + row, 128 + group * per : 128 + group * per + per] if row < 4 else np.zeros(per, np.uint8)
        assert (stored == expected).all()
        if used < 16:
            assert not (shared.state[start + used : start + 16] & 2).any(), "padding is not written"


def _map(memory: GlobalMemory, **changes: Any) -> TensorMap:
    address = memory.allocate(4096)
    memory.write(address, bytes(4096))
    arguments: dict[str, Any] = {
        "dtype": DataType.F16,
        "address": address,
        "dims": (32, 8),
        "strides": (64,),
        "box": (32, 4),
    }
    return TensorMap(**(arguments | changes))


def test_faults(cluster: Callable[..., Cluster]) -> None:
    world = cluster()
    memory, shared = world.machine.memory, world.ctas[0].shared
    tmap = _map(memory)
    with pytest.raises(Fault, match="multiple of 8"):
        tma.read_box(memory, tmap, (4, 0))
    with pytest.raises(Fault, match="negative"):
        tma.write_box(memory, tmap, (0, -1), np.zeros(256, np.uint8))
    with pytest.raises(Fault, match="multiple of 128"):
        tma.place_box(shared, 2048 + 64, tmap, np.zeros(256, np.uint8))
    with pytest.raises(Fault, match="never written"):
        tma.fetch_box(shared, 2048, tmap)
    with pytest.raises(Fault, match="outside"):
        tma.place_box(shared, (228 << 10) - 128, tmap, np.zeros(256, np.uint8))
    with pytest.raises(Fault, match="coordinates"):
        tma.read_box(memory, tmap, (0,))
    with pytest.raises(Fault, match="does not exist"):
        tma.reduce_bytes(np.zeros(8, np.uint8), np.zeros(8, np.uint8), DataType.F32, "min")
    fresh = memory.allocate(512)
    with pytest.raises(Fault, match="never written"):
        tma.read_box(memory, _map(memory, address=fresh), (0, 0))
    with pytest.raises(Fault, match="in no allocation"):
        tma.write_box(memory, _map(memory, address=fresh + 384), (0, 0), np.zeros(256, np.uint8))


@pytest.mark.parametrize("write", ["store", "reduce"])
def test_read_only_memory_is_not_written(write: str) -> None:
    """A kernel's parameters, say: the box may touch none of their bytes."""
    memory = GlobalMemory()
    address = memory.allocate(1024)
    memory.write(address, bytes(1024))
    memory.state[memory.offset(address, 1024) + 600] |= READ_ONLY
    tmap = TensorMap(DataType.U32, address, (64, 4), (256,), (16, 4), (1, 1))
    packed = np.zeros(16 * 4 * 4, np.uint8)
    put = tma.write_box if write == "store" else lambda *box: tma.reduce_box(*box, "add")
    put(memory, tmap, (32, 0), packed)
    with pytest.raises(Fault, match="read-only"):
        put(memory, tmap, (16, 0), packed)


def test_ties_of_tf32_go_to_the_even_neighbour() -> None:
    memory = GlobalMemory()
    address = memory.allocate(32)
    bits = np.array([0x3F801000, 0x3F803000, 0xBF801000, 0xBF803000, 0x3F801001, 0x3F800FFF, 0, 1], np.uint32)
    memory.write(address, bits.tobytes())
    found = tma.read_box(memory, TensorMap(DataType.TF32, address, (8,), (), (8,), (1,)), (0,)).view(np.uint32)
    want = [0x3F800000, 0x3F804000, 0xBF800000, 0xBF804000, 0x3F802000, 0x3F800000, 0, 0]
    assert found.ravel().tolist() == want
