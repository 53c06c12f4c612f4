"""How wide a load of scales may be, and which layouts the tensor core reads as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.passes.feeds.scale_reading import group_width
from fp4cc.passes.problem.placement import same_placement
from fp4num import LAYOUTS, ScaleLayout

from ...layouts import random_layout

Lower = Callable[..., LoweredKernel]


@pytest.mark.parametrize("seed", range(60))
def test_a_load_takes_neighbors_in_memory(seed: int) -> None:
    """Whatever width is chosen for a random layout: its groups are adjacent, aligned, and as wide as they can be."""
    rng = Random(seed)
    layout = random_layout(rng)
    blocks, count = rng.choice([2, 4, 6, 8, 12, 16, 32, 48]), rng.choice([1, 2, 4, 8, 16])
    width = group_width(layout, count, lambda n: blocks % n == 0)
    padded = -(-blocks // count) * count
    offsets = layout.offsets(3, 13, blocks)

    def adjacent(width: int) -> bool:
        """On this grid; groups that reach past the last scale are what is there of them."""
        whole = offsets[..., : blocks // width * width].reshape(3, 13, -1, width)
        return bool((whole == whole[..., :1] + np.arange(width)).all() and (whole[..., 0] % width == 0).all())

    assert padded % width == 0
    assert adjacent(width)


@pytest.mark.parametrize(
    ("layout", "count", "multiple", "width"),
    [
        ("linear", 16, 16, 16),
        ("linear", 16, 4, 4),
        ("linear", 16, 2, 2),
        ("linear", 16, 1, 1),
        ("linear", 4, 16, 4),
        ("blocked_8x4", 16, 1, 4),
        ("blocked_128x4", 16, 1, 4),
        ("blocked_128x4", 2, 1, 2),
    ],
)
def test_the_widths_of_the_standard_layouts(layout: str, count: int, multiple: int, width: int) -> None:
    assert group_width(LAYOUTS[layout], count, lambda n: multiple % n == 0) == width


def test_atoms_that_are_no_power_of_two_do_not_align_rows() -> None:
    thirds = ScaleLayout("thirds", (("row", 1), ("k", 3)), (1, 3), (0, 1))
    assert group_width(thirds, 4, lambda n: True) == 1


def test_a_layout_is_what_it_places_not_how_it_is_written() -> None:
    native = LAYOUTS["blocked_128x4"]
    other = ScaleLayout("mine", (("k", 4), ("row", 128)), ((2, 2), (32, 4)), ((1, 2), (16, 4)))
    assert same_placement(native, other)
    assert not same_placement(native, replace(other, order=("row", "k", "batch")))
    assert not same_placement(native, replace(other, pad=1))
    assert not same_placement(native, LAYOUTS["blocked_8x4"])


def test_only_what_is_not_native_is_relaid(lower_text: Lower) -> None:
    text = (
        "layout same { coords k : 4, row : 128; atom (4, (32, 4)) : (1, (16, 4)); order k, row, batch }\n"
        "format a4 extends nvfp4 { layout same }\nformat b4 extends nvfp4 { layout linear }\n"
        "kernel k(M, N, K) { in a : a4[M, K]; in b : b4[N, K]; out c : f32[M, N]; c = a @ b.T }\n"
    )
    lowered = lower_text(text)
    (mainloop,) = lowered.mainloops
    assert [load.buffer for load in mainloop.loads] == ["a_smem", "b_smem", "sfa_smem"]
    assert [conversion.buffer for conversion in mainloop.conversions] == ["sfb_smem"]
    assert lowered.converters is not None
    assert lowered.launch.threads == 192 + 32 * lowered.converters.warps
    arrivals = lowered.rings.barrier("ab_full").arrivals
    assert arrivals == 1 + lowered.engine_as(Tcgen05).mma.cta_group * lowered.converters.members


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_no_team_is_more_than_one_phase_ahead(lower_text: Lower, stages: int) -> None:
    """A parity tells two phases apart: a team's next turn may be at most one round of the ring away."""
    text = (
        "format b4 extends nvfp4 { layout linear }\n"
        "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : b4[N, K]; out c : f32[M, N]; c = a @ b.T }\n"
        f"schedule k on sm_100a {{ stages {stages} }}\n"
    )
    converters = lower_text(text).converters
    assert converters is not None
    assert converters.teams <= stages
