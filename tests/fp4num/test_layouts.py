"""Scale layouts: the standard ones against their published formulas, random ones against brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4num import LAYOUTS, DataError, LayoutError, ScaleLayout, cute
from fp4num.cute import Tree

GRIDS = [(1, 1, 1), (1, 128, 4), (1, 129, 5), (3, 40, 7), (2, 256, 8), (1, 7, 1)]


def formula(name: str, batch: int, row: int, k: int, rows: int, kblocks: int) -> int:
    if name == "linear":
        return (batch * rows + row) * kblocks + k
    n_k = -(-kblocks // 4)
    if name == "blocked_8x4":
        n_m = -(-rows // 8)
        return ((batch * n_m + row // 8) * n_k + k // 4) * 32 + (row % 8) * 4 + k % 4
    n_m = -(-rows // 128)
    return ((batch * n_m + row // 128) * n_k + k // 4) * 512 + (row % 32) * 16 + ((row % 128) // 32) * 4 + k % 4


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("grid", GRIDS)
def test_standard_layouts_equal_their_formulas(name: str, grid: tuple[int, int, int]) -> None:
    layout = LAYOUTS[name]
    batches, rows, kblocks = grid
    offsets = layout.offsets(*grid)
    for b, r, k in itertools.product(range(batches), range(rows), range(kblocks)):
        assert offsets[b, r, k] == formula(name, b, r, k, rows, kblocks)
        assert layout.offset(b, r, k, rows, kblocks) == offsets[b, r, k]
    layout.prove()


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("grid", GRIDS)
def test_buffers_round_trip_and_padding_is_filled(name: str, grid: tuple[int, int, int]) -> None:
    layout = LAYOUTS[name]
    scales = np.random.default_rng(0).integers(1, 256, grid, dtype=np.uint8)
    buffer = layout.to_buffer(scales)
    assert buffer.shape == (layout.size(*grid),)
    assert (buffer == 0).sum() == layout.padding(*grid)
    np.testing.assert_array_equal(layout.from_buffer(buffer, *grid), scales)


def test_blocked_128x4_pads_rows_to_128_and_blocks_to_4() -> None:
    layout = LAYOUTS["blocked_128x4"]
    assert layout.size(1, 129, 5) == 256 * 8
    assert layout.size(3, 0, 4) == 0
    assert layout.padding(2, 128, 4) == 0


def random_layout(seed: int) -> ScaleLayout:
    """A layout that is often a bijection: strides in mixed radix, then sometimes one of them broken."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 4))
    names = [str(n) for n in random.permutation(["batch", "row", "k"])[:count]]
    modes = [[int(random.integers(1, 5)) for _ in range(random.integers(1, 4))] for _ in names]
    flat = [(i, j) for i, mode in enumerate(modes) for j in range(len(mode))]
    strides = [[0] * len(mode) for mode in modes]
    reach = 1
    for at in random.permutation(len(flat)):
        i, j = flat[at]
        strides[i][j] = reach if modes[i][j] > 1 or random.random() < 0.5 else int(random.integers(0, 50))
        reach *= modes[i][j]
    if random.random() < 0.5:
        i, j = flat[random.integers(len(flat))]
        strides[i][j] = int(random.integers(0, 2 * reach + 1))

    def tree(leaves: list[int]) -> Tree:
        return leaves[0] if len(leaves) == 1 else (leaves[0], tree(leaves[1:]))

    coords = tuple((name, int(np.prod(mode))) for name, mode in zip(names, modes, strict=True))
    order = tuple(str(n) for n in random.permutation(["batch", "row", "k"]))
    shape, stride = (tuple(tree(leaves) for leaves in trees) for trees in (modes, strides))
    return ScaleLayout(f"random_{seed}", coords, shape, stride, order)


def brute_force(layout: ScaleLayout) -> dict[int, list[dict[str, int]]]:
    """Coordinates of an atom by the offset they land on, computed one at a time from the definition."""
    found: dict[int, list[dict[str, int]]] = {}
    names = [name for name, _ in layout.coords]
    modes = {name: layout.modes(name) for name in names}
    for point in itertools.product(*(range(extent) for _, extent in layout.coords)):
        offset = 0
        for name, index in zip(names, point, strict=True):
            for extent, stride in modes[name]:
                offset += index % extent * stride
                index //= extent
        found.setdefault(offset, []).append(dict(zip(names, point, strict=True)))
    return found


@pytest.mark.parametrize("block", range(10))
def test_proof_accepts_exactly_the_bijections(block: int) -> None:
    """1,000 random definitions: the verdict is brute force's, and a counterexample is a true one."""
    verdicts = [0, 0]
    for seed in range(block * 100, block * 100 + 100):
        layout = random_layout(seed)
        found = brute_force(layout)
        bijective = sorted(found) == list(range(layout.atom_size))
        verdicts[bijective] += 1
        if bijective:
            assert layout.prove().atom_size == layout.atom_size
            continue
        with pytest.raises(LayoutError) as caught:
            layout.prove()
        error = caught.value
        assert error.first is not None and error.offset is not None
        assert error.first in found[error.offset]
        if error.second is None:
            assert error.offset >= layout.atom_size
        else:
            assert error.second in found[error.offset] and error.second != error.first
    assert min(verdicts) > 10, "the generator makes both kinds"


@given(st.integers(0, 999), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))
def test_bijective_layouts_place_every_block_once(seed: int, batches: int, rows: int, kblocks: int) -> None:
    layout = random_layout(seed)
    try:
        layout.prove()
    except LayoutError:
        return
    offsets = layout.offsets(batches, rows, kblocks)
    size = layout.size(batches, rows, kblocks)
    assert len(np.unique(offsets)) == offsets.size == batches * rows * kblocks
    assert not offsets.size or (offsets.min() >= 0 and offsets.max() < size)
    assert size - offsets.size == layout.padding(batches, rows, kblocks)


def test_collision_shows_the_two_coordinates() -> None:
    layout = ScaleLayout("bad", (("row", 128), ("k", 4)), ((32, 4), 4), ((16, 4), 2))
    with pytest.raises(LayoutError, match=r"layout bad: .* both lie at offset") as caught:
        layout.prove()
    assert caught.value.first == {"row": 1, "k": 0}
    assert caught.value.second == {"row": 96, "k": 2}
    assert caught.value.offset == 16


def test_out_of_bounds_shows_the_coordinate() -> None:
    layout = ScaleLayout("gap", (("row", 4), ("k", 2)), (4, 2), (1, 5))
    with pytest.raises(LayoutError, match="outside its atom of 8 elements") as caught:
        layout.prove()
    assert caught.value.first == {"row": 3, "k": 1}
    assert caught.value.second is None


def test_proof_in_words() -> None:
    text = "\n".join(LAYOUTS["blocked_128x4"].prove().lines())
    assert "an atom has 512 elements" in text and "stride 16 = 16" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords": (("row", 128), ("k", 4), ("batch", 1))}, "needs one mode for each of its 3 coordinates"),
        ({"coords": (("row", 64), ("k", 4))}, "the extent of row is 64"),
        ({"coords": (("row", 128), ("row", 4))}, "distinct names"),
        ({"coords": (("row", 128), ("col", 4))}, "distinct names out of batch, row and k"),
        ({"coords": (("row", 0), ("k", 4))}, "at least 1"),
        ({"atom_stride": (16, 1)}, "has not the form"),
        ({"atom_stride": ((16, -4), 1)}, "no negative stride"),
        ({"order": ("k", "row")}, "names batch, row and k once each"),
        ({"pad": 256}, "pad is a byte"),
    ],
)
def test_malformed_layouts_are_named(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "coords": (("row", 128), ("k", 4)),
        "atom_shape": ((32, 4), 4),
        "atom_stride": ((16, 4), 1),
    }
    with pytest.raises(LayoutError, match=message):
        ScaleLayout("odd", **{**fields, **change})


def test_a_single_mode_needs_no_parentheses() -> None:
    layout = ScaleLayout("one", (("k", 4),), 4, 1, order=("row", "k", "batch"))
    layout.prove()
    assert layout.offsets(1, 2, 4).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_order_decides_where_the_next_atom_lies() -> None:
    rows_first = ScaleLayout("tall", (("row", 2), ("k", 2)), (2, 2), (1, 2), order=("row", "k", "batch"))
    assert rows_first.offset(0, 2, 0, 4, 4) == 4
    assert rows_first.offset(0, 0, 2, 4, 4) == 8
    batch_inside = ScaleLayout("inner", (("row", 1),), 1, 0, order=("batch", "k", "row"))
    with pytest.raises(LayoutError, match="use offsets"):
        batch_inside.offset(0, 0, 0, 2, 2)
    assert batch_inside.offsets(2, 1, 2).tolist() == [[[0, 2]], [[1, 3]]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_json_round_trip(name: str) -> None:
    assert ScaleLayout.from_json(LAYOUTS[name].to_json()) == LAYOUTS[name]


def test_json_is_strict() -> None:
    good = LAYOUTS["blocked_128x4"].to_json()
    with pytest.raises(LayoutError, match="has the fields"):
        ScaleLayout.from_json({**good, "extra": 1})
    with pytest.raises(LayoutError, match="CuTe tree is made of"):
        ScaleLayout.from_json({**good, "atom_shape": [[32, "4"], 4]})
    with pytest.raises(LayoutError, match="malformed"):
        ScaleLayout.from_json({**good, "coords": [["row"], ["k", 4]]})


def test_buffers_of_the_wrong_size_are_named() -> None:
    with pytest.raises(DataError, match="fill a 1-D buffer of 512"):
        LAYOUTS["blocked_128x4"].from_buffer(np.zeros(511, np.uint8), 1, 128, 4)
    with pytest.raises(DataError, match=r"\[batch, row, k\]"):
        LAYOUTS["linear"].to_buffer(np.zeros((2, 2), np.uint8))


def test_huge_atoms_are_refused() -> None:
    with pytest.raises(LayoutError, match="at most"):
        ScaleLayout("huge", (("row", 1 << 21),), (1 << 21,), (1,)).prove()


def test_trees_print_as_cute_does() -> None:
    assert cute.text(((32, 4), 4)) == "((32,4),4)"
    assert str(LAYOUTS["blocked_128x4"]).endswith("atom ((32,4),4):((16,4),1)")


def test_padding_is_a_byte_whatever_the_scale() -> None:
    """Every byte of a place that no block owns, so four of an f32 scale."""
    layout = replace(LAYOUTS["blocked_8x4"], pad=7)
    for scales in (np.ones((1, 3, 5), np.uint8), np.ones((1, 3, 5), np.float32)):
        buffer = layout.to_buffer(scales)
        owned = layout.offsets(1, 3, 5).reshape(-1)
        rest = np.delete(buffer, owned)
        assert rest.size == layout.padding(1, 3, 5)
        assert (rest.view(np.uint8) == 7).all()
        assert (layout.from_buffer(buffer, 1, 3, 5) == 1).all()
