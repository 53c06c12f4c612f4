"""Unzipped products: which are made as one, which as two, and what that asks of sizes and tiles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.ir.lowered_epilogue import Half

Lower = Callable[..., LoweredKernel]

TEXT = """
kernel up(M, N, K, F = N / 2) %s {
    in x : %s[M, K]; in w : %s[N, K]; out y : bf16[M, F]
    g, u = unzip(x @ w.T, N -> F, group = %s)
    y = swiglu(g, u)
}
"""


def up(group: str, where: str = "", fmt: str = "nvfp4", fields: str = "") -> str:
    tail = f"schedule up on sm_100a {{ {fields} }}\n" if fields else ""
    return TEXT % (where, fmt, fmt, group) + tail


def test_halves_apart_share_a_tensor_map(lower_text: Lower) -> None:
    lowered = lower_text(up("F", "where F % 128 == 0"))
    first, second = (product.b for product in lowered.products.products)
    assert (first.first_row, second.first_row) == (0, ("div", "N", 2))
    assert (first.half, second.half) == (Half(0, None), Half(1, None))
    names = [load.tensor_map for load in lowered.loads]
    assert names == ["x_codes", "w_codes", "w_codes", "x_scales", "w_scales", "w_scales"]
    (codes,) = (m for m in lowered.tensor_maps if m.name == "w_codes")
    assert codes.dims == ("K", "N")  # all of its rows
    assert lowered.products.n_axis == "F"


@pytest.mark.parametrize("group", ["1", "16", "128"])
def test_halves_that_take_turns_are_one_product(lower_text: Lower, group: str) -> None:
    lowered = lower_text(up(group))
    assert len(lowered.products.products) == 1
    assert lowered.epilogue.group == int(group)
    assert len(lowered.epilogue.accumulators) == 2
    assert lowered.tile.n % (2 * int(group)) == 0


def test_wide_groups_have_a_product_each(lower_text: Lower) -> None:
    lowered = lower_text(up("192"))
    assert [product.b.first_row for product in lowered.products.products] == [0, 192]
    assert 192 % lowered.tile.n == 0


@pytest.mark.parametrize(
    ("where", "fields", "native"),
    [
        ("", "", False),
        ("where F % 32 == 0", "", False),
        ("where F % 128 == 0", "", True),
        ("where N % 256 == 0", "", True),
        ("where F % 64 == 0", "", True),  # then tiles are 64 or 192 wide
        ("where F % 64 == 0", "tile 128 x 192 x 256", True),
        ("where F % 64 == 0", "tile 128 x 128 x 256", False),
    ],
)
def test_scales_of_the_second_half_come_by_tma_where_an_atom_starts(
    lower_text: Lower, where: str, fields: str, native: bool
) -> None:
    """Else converter warps lay them out anew, from whatever row they start at."""
    lowered = lower_text(up("F", where, fields=fields))
    (mainloop,) = lowered.mainloops
    assert [c.buffer for c in mainloop.conversions] == ([] if native else ["sfb2_smem"])
    assert not [c for c in lowered.constraints if c.text.startswith("F")]
    if where.startswith("where F % 64") and not fields:
        assert lowered.tile.n in (64, 192)


def test_plain_operands_have_no_atoms(lower_text: Lower) -> None:
    assert lower_text(up("F", fmt="bf16")).converters is None


def test_static_halves_leave_the_tiles_that_start_within_an_atom(lower_text: Lower) -> None:
    assert lower_text(up("F"), N=384).tile.n in (64, 192)
    assert lower_text(up("F"), N=256).epilogue.group == 128  # both halves are a tile


@pytest.mark.parametrize("group", [1, 16, 32, 64, 128])
def test_overlapping_accumulators_are_released_once_the_shared_columns_are_read(lower_text: Lower, group: int) -> None:
    lowered = lower_text(up(str(group), fields="tile 128 x 256 x 256; cluster 1 x 1"))
    tmem, width = lowered.engine_as(Tcgen05).tmem, lowered.tile.n
    assert tmem.overlapped(width)
    run = max(group, 32)
    steps = [
        {c for first in [s * 32 // run * 2 * run + s * 32 % run] for c in range(first, first + 32)}
        | {c for first in [s * 32 // run * 2 * run + s * 32 % run + run] for c in range(first, first + 32)}
        for s in range(width // 64)
    ]
    shared = width - tmem.acc_stride
    left = set[int]().union(*steps[: tmem.release_after])
    right = set[int]().union(*steps[-tmem.release_after :])
    assert set(range(shared)) <= left
    assert set(range(width - shared, width)) <= right
    assert tmem.release_after < len(steps)


@pytest.mark.parametrize(
    ("group", "chosen", "mainloops"),
    [
        ("16", "one product, in which they take turns in 16 columns", None),
        ("192", "a product each", "x by the first half of w and the second half of w"),
        ("F", "a product each", "x by the first half of w and the second half of w"),
    ],
)
def test_the_choice_is_explained(lower_text: Lower, group: str, chosen: str, mainloops: str | None) -> None:
    decisions = {d.what: d.chosen for d in lower_text(up(group)).decisions}
    assert decisions["halves"] == chosen
    assert decisions.get("mainloops") == mainloops
