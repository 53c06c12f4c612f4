"""Shuffles, votes, matches, reductions and elections in a warp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Fault, execute


def shuffle(values: list[int], mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """PTX ISA 9.7.9.6, its own pseudo code."""
    segment, clamp = c >> 8 & 31, c & 31
    top, low = lane & segment | clamp & ~segment & 31, lane & segment
    j, ok = {
        "up": (lane - b, lane - b >= top),
        "down": (lane + b, lane + b <= top),
        "bfly": (lane ^ b, (lane ^ b) <= top),
        "idx": (low | b & ~segment & 31, (low | b & ~segment & 31) <= top),
    }[mode]
    return values[j if ok else lane], ok


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("clamp", [31, 0, 0x181F, 0x1C1F, 0x1800])
def test_shuffles(mode: str, clamp: int, lanes: Any, rng: np.random.Generator) -> None:
    values = rng.integers(0, 1 << 32, 64, dtype=np.uint32)
    offsets = rng.integers(0, 32, 64, dtype=np.uint32)
    got, flags = lanes(
        f"shfl.sync.{mode}.b32 %out0|%p0, %in0, %in1, {clamp}, -1; selp.b32 %out1, 1, 0, %p0;",
        values,
        offsets,
        out=[np.uint32] * 2,
    )
    for warp in range(2):
        row = values[32 * warp : 32 * warp + 32].tolist()
        for lane in range(32):
            want = shuffle(row, mode, lane, int(offsets[32 * warp + lane]), clamp)
            assert (got[32 * warp + lane], bool(flags[32 * warp + lane])) == want


def test_broadcast_stays_uniform(lanes: Any) -> None:
    values = np.arange(64, dtype=np.uint32) * 3
    got = lanes("shfl.sync.idx.b32 %r0, %in0, 5, 31, -1; add.u32 %out0, %r0, 1;", values)
    np.testing.assert_array_equal(got, np.repeat([16, 112], 32))


def test_votes(lanes: Any, rng: np.random.Generator) -> None:
    flags = np.concatenate([np.zeros(32), np.ones(32), rng.integers(0, 2, 64)]).astype(np.uint32)
    code = (
        "setp.ne.u32 %p0, %in0, 0; vote.sync.ballot.b32 %out0, %p0, -1; vote.sync.all.pred %p1, %p0, -1; "
        "vote.sync.any.pred %p2, %p0, -1; "
        "vote.sync.uni.pred %p3, %p0, -1; selp.b32 %r1, 1, 0, %p1; selp.b32 %r2, 2, 0, %p2; "
        "selp.b32 %r3, 4, 0, %p3; or.b32 %r1, %r1, %r2; or.b32 %out1, %r1, %r3;"
    )
    ballots, bits = lanes(code, flags, out=[np.uint32] * 2)
    for warp in range(4):
        row = flags[32 * warp : 32 * warp + 32]
        assert set(ballots[32 * warp : 32 * warp + 32]) == {sum(int(f) << i for i, f in enumerate(row))}
        assert set(bits[32 * warp : 32 * warp + 32]) == {
            int(row.all()) | int(row.any()) << 1 | int(row.all() or not row.any()) << 2
        }


REDUCTIONS = {
    "add.u32": lambda row: int(row.sum()) & 0xFFFF_FFFF,
    "min.s32": lambda row: int(row.view(np.int32).min()) & 0xFFFF_FFFF,
    "max.u32": lambda row: int(row.max()),
    "and.b32": lambda row: int(np.bitwise_and.reduce(row)),
    "xor.b32": lambda row: int(np.bitwise_xor.reduce(row)),
}


@pytest.mark.parametrize("op", REDUCTIONS)
def test_redux(op: str, lanes: Any, rng: np.random.Generator) -> None:
    values = rng.integers(0, 1 << 32, 64, dtype=np.uint32)
    got = lanes(f"redux.sync.{op} %out0, %in0, -1;", values)
    np.testing.assert_array_equal(
        got, np.repeat([REDUCTIONS[op](values[:32]), REDUCTIONS[op](values[32:])], 32).astype(np.uint32)
    )


def test_float_redux(lanes: Any, rng: np.random.Generator) -> None:
    values = rng.normal(0, 10, 64).astype(np.float32)
    values[3] = np.nan
    values[40] = -1000
    code = (
        "redux.sync.max.f32 %out0, %in0, -1; redux.sync.min.f32 %out1, %in0, -1; "
        "redux.sync.max.abs.f32 %out2, %in0, -1; redux.sync.max.NaN.f32 %out3, %in0, -1;"
    )
    high, low, magnitude, strict = lanes(code, values, out=[np.float32] * 4)
    for half in (slice(0, 32), slice(32, 64)):
        row = values[half]
        assert set(high[half]) == {np.nanmax(row)} and set(low[half]) == {np.nanmin(row)}
        assert set(magnitude[half]) == {np.nanmax(np.abs(row))}
    assert np.isnan(strict[:32]).all() and not np.isnan(strict[32:]).any()


def test_match(lanes: Any, rng: np.random.Generator) -> None:
    values = np.concatenate([rng.integers(0, 4, 32), np.full(32, 9)]).astype(np.uint32)
    code = "match.any.sync.b32 %out0, %in0, -1; match.all.sync.b32 %out1|%p0, %in0, -1; selp.b32 %out2, 1, 0, %p0;"
    anyone, everyone, agree = lanes(code, values, out=[np.uint32] * 3)
    row = values[:32]
    np.testing.assert_array_equal(anyone[:32], [sum(1 << i for i in range(32) if row[i] == v) for v in row])
    np.testing.assert_array_equal(everyone, np.repeat([0, 0xFFFF_FFFF], 32))
    np.testing.assert_array_equal(agree, np.repeat([0, 1], 32))


def test_elect(lanes: Any) -> None:
    got, second = lanes(
        "elect.sync %r1|%p0, -1; selp.b32 %out0, 1, 0, %p0; mov.u32 %r2, %laneid; setp.gt.u32 %p1, %r2, 9; "
        "@!%p1 bra SKIP; elect.sync _|%p2, 0xFFFFFC00; "
        "selp.b32 %r3, 1, 0, %p2;\nSKIP: selp.b32 %out1, %r3, 0, %p1;",
        out=[np.uint32] * 2,
    )
    np.testing.assert_array_equal(got, ([1] + [0] * 31) * 2)
    np.testing.assert_array_equal(second, ([0] * 10 + [1] + [0] * 21) * 2)


def test_membermask_must_be_met(lanes: Any) -> None:
    with pytest.raises(Fault, match="membermask names lanes that do not execute"):
        lanes(
            "mov.u32 %r0, %laneid; setp.gt.u32 %p0, %r0, 15; @%p0 bra SKIP; vote.sync.ballot.b32 %out0, %p0, -1;\nSKIP:"
        )


#: What the lanes of a warp give as membermasks: tiles of 2^n lanes, the lanes of one parity, and one mask in registers
#: that the emulator does not know to be one.
TILES = {
    "tiles of 8": lambda lane: 0xFF << (lane & ~7),
    "pairs": lambda lane: 3 << (lane & ~1),
    "parity": lambda lane: 0x55555555 << (lane & 1),
    "all": lambda lane: 0xFFFFFFFF,
}


@pytest.mark.parametrize("lockstep", [None, "warp"])
@pytest.mark.parametrize("tiles", TILES)
def test_membermasks_of_tiles(tiles: str, lockstep: str | None, lanes: Any, rng: np.random.Generator) -> None:
    """CUDA's tiled partitions give each lane the mask of its own tile."""
    masks = np.array([TILES[tiles](i % 32) & 0xFFFFFFFF for i in range(64)], np.uint32)
    values = rng.integers(0, 8, 64, dtype=np.uint32)
    code = (
        "mov.u32 %r9, %laneid; redux.sync.add.u32 %out0, %in0, %in1; setp.gt.u32 %p0, %in0, 3; "
        "vote.sync.ballot.b32 %out1, %p0, %in1; match.any.sync.b32 %out2, %in0, %in1; "
        "vote.sync.any.pred %p1, %p0, %in1; vote.sync.all.pred %p2, %p0, %in1; "
        "selp.b32 %r1, 1, 0, %p1; selp.b32 %r2, 2, 0, %p2; add.u32 %out3, %r1, %r2; "
        "match.all.sync.b32 %r3|%p3, %in1, %in1; bar.warp.sync %in1; "
        "shfl.sync.idx.b32 %out4, %in0, %r9, 31, %in1; add.u32 %out4, %out4, %r3;"
    )
    got = lanes(code, values, masks, out=[np.uint32] * 5, lockstep=lockstep)
    for i in range(64):
        base = i // 32 * 32
        mine = [base + j for j in range(32) if int(masks[i]) >> j & 1]
        same = sum(1 << (j - base) for j in mine if values[j] == values[i])
        big = [bool(values[j] > 3) for j in mine]
        want = (
            sum(int(values[j]) for j in mine),
            sum(1 << (j - base) for j in mine if values[j] > 3),
            same,
            int(any(big)) + 2 * int(all(big)),
            (int(values[i]) + int(masks[i])) & 0xFFFFFFFF,
        )
        assert tuple(int(x[i]) for x in got) == want, i


@pytest.mark.parametrize("lockstep", [None, "warp"])
def test_lanes_wait_for_those_a_register_names(lockstep: str | None, lanes: Any) -> None:
    """Lanes 0 to 15 come later; the mask is one number in a register that differs between lanes elsewhere."""
    masks = np.full(64, 0xFFFFFFFF, np.uint32)
    code = (
        "mov.u32 %r1, %laneid; setp.lt.u32 %p0, %r1, 16; mov.u32 %r2, 1; @%p0 bra LATE; bra MEET; "
        "LATE: add.u32 %r2, %r2, 1; MEET: redux.sync.add.u32 %out0, %r2, %in0;"
    )
    np.testing.assert_array_equal(lanes(code, masks, lockstep=lockstep), np.full(64, 48))


def test_masks_that_do_not_agree(lanes: Any) -> None:
    masks = np.tile([3, 7] + [0xFFFFFFFF] * 30, 2).astype(np.uint32)
    with pytest.raises(Fault, match="different membermasks"):
        lanes("redux.sync.add.u32 %out0, %in0, %in0;", masks)


def test_a_whole_row_is_passed_to_a_handler_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `wgmma` has up to 128 registers: broadcasting each, which changes nothing, took half of a kernel's time."""
    array = np.arange(64, dtype=np.uint32).reshape(2, 32)

    def never(*_: object) -> None:
        raise AssertionError("broadcast")

    monkeypatch.setattr(np, "broadcast_to", never)
    row = execute._lanes(array, 1, None)  # pyright: ignore[reportPrivateUsage]
    assert np.shares_memory(row, array)
    assert row.tolist() == array[1].tolist()
