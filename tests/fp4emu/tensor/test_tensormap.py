"""Tensor maps against those that the CUDA driver and the CuTe DSL encoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4emu import Fault
from fp4emu.swizzle import PATTERNS, Swizzle
from fp4emu.tensormap import BITS, PADDED, DataType, L2Promotion, OobFill, TensorMap

Data = Callable[[str], dict[str, Any]]


def _map(row: list[Any]) -> TensorMap:
    dtype, address, dims, strides, box, steps, mode, l2, fill, _ = row
    return TensorMap(
        DataType(dtype),
        address,
        tuple(dims),
        tuple(strides),
        tuple(box),
        tuple(steps),
        swizzle=Swizzle(mode),
        l2=L2Promotion(l2),
        oob_fill=OobFill(fill),
    )


def test_encodes_and_refuses_as_the_driver_does(data: Data) -> None:
    accepted = 0
    for row in data("tensor_maps")["driver"]:
        if row[-1]:
            accepted += 1
            assert _map(row).encode()[:64].hex() == row[-1]
            assert TensorMap.decode(bytes.fromhex(row[-1]) + bytes(64)) == _map(row)
        else:
            with pytest.raises(Fault, match="illegal tensor map"):
                _map(row).encode()
    assert accepted >= 150


def test_decodes_what_the_dsl_encodes(data: Data) -> None:
    for row in data("tensor_maps")["dsl"]:
        raw = bytes.fromhex(row[-1]) + bytes(64)
        assert TensorMap.decode(raw) == _map(row)
        # The DSL sets two bits that the driver leaves clear.
        words = list(struct.unpack("<16I", raw[:64]))
        words[2] &= ~0x0020_0002
        assert _map(row).encode()[:64] == struct.pack("<16I", *words)


@st.composite
def maps(draw: st.DrawFn) -> TensorMap:
    dtype = draw(st.sampled_from(list(DataType)))
    rank = draw(st.integers(1, 5))
    padded = dtype in PADDED
    modes = [Swizzle.NONE, Swizzle.B128, Swizzle.B128_ATOM_32B, Swizzle.B128_ATOM_64B] if padded else list(Swizzle)
    mode = draw(st.sampled_from(modes))
    unit = 32 if padded else 16
    step = 128 // BITS[dtype] if not padded else 128
    limit = 256 if mode is Swizzle.NONE else 8 * PATTERNS[mode].span // BITS[dtype]
    inner = 128 if padded else step * draw(st.integers(1, max(1, min(limit, 256) // step)))
    multiple = 128 if padded else 2
    return TensorMap(
        dtype,
        unit * draw(st.integers(0, 1 << 50)),
        (multiple * draw(st.integers(1, 1 << 24)), *(draw(st.integers(1, 1 << 32)) for _ in range(rank - 1))),
        tuple(unit * draw(st.integers(0, (1 << 35) - 1)) for _ in range(rank - 1)),
        (inner, *(draw(st.integers(1, 3)) for _ in range(rank - 1))),
        (1, *(draw(st.integers(1, 8)) for _ in range(rank - 1))),
        swizzle=mode,
        l2=draw(st.sampled_from(list(L2Promotion))),
    )


@given(maps())
def test_round_trip(tmap: TensorMap) -> None:
    assert TensorMap.decode(tmap.encode()) == tmap


def test_refuses_bytes_that_are_no_tiled_map() -> None:
    good = TensorMap(DataType.U8, 0x7F00_0000_0000, (64, 64), (64,), (64, 64)).encode()
    with pytest.raises(Fault, match="128 bytes"):
        TensorMap.decode(good[:64])
    with pytest.raises(Fault, match="all zeros"):
        TensorMap.decode(bytes(128))
    for byte, bit in ((11, 7), (62, 1), (54, 0)):
        raw = bytearray(good)
        raw[byte] |= 1 << bit
        with pytest.raises(Fault):
            TensorMap.decode(bytes(raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"address": 8}, "multiple of 16"),
        ({"strides": (72,)}, "multiple of 16"),
        ({"box": (300, 1)}, "outside of 1..256"),
        ({"box": (8, 8)}, "multiple of 16 bytes"),
        ({"element_strides": (1, 9)}, "outside of 1..8"),
        ({"swizzle": Swizzle.B32}, "swizzle span"),
        ({"oob_fill": OobFill.NAN}, "float type"),
        ({"dtype": DataType.B4X16_P64}, "128 elements"),
        ({"strides": ()}, "one entry a dimension"),
    ],
)
def test_refusals_say_why(change: dict[str, Any], message: str) -> None:
    arguments = {"dtype": DataType.U8, "address": 0, "dims": (64, 64), "strides": (64,), "box": (64, 64)}
    with pytest.raises(Fault, match=message):
        TensorMap(**(arguments | change)).encode()  # type: ignore[arg-type]
