"""Layouts in words and pictures agree with the offsets they describe."""

from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest

from fp4cc.layout import describe_format, describe_layout, describe_tensor, draw_atom, draw_memory, draw_svg
from fp4cc.layout.describe import offset_formula
from fp4num import FORMATS, LAYOUTS, DataError, ScaleLayout

CUSTOM = ScaleLayout("custom", (("row", 16), ("k", 8)), ((4, 4), (2, 4)), ((2, 32), (1, 8)), ("row", "k", "batch"))
BATCHED = ScaleLayout("batched", (("batch", 2), ("row", 4), ("k", 2)), (2, 4, 2), (8, 2, 1), ("k", "batch", "row"))
ALL = [*LAYOUTS.values(), CUSTOM, BATCHED]


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_the_formula_computes_the_offsets(layout: ScaleLayout) -> None:
    layout.prove()
    batches, rows, ks = 3, 300, 21
    offsets = layout.offsets(batches, rows, ks)
    atoms = layout.atoms(batches, rows, ks)
    formula = offset_formula(layout).replace("/", "//")
    rng = random.Random(0)
    for _ in range(300):
        batch, row, k = rng.randrange(batches), rng.randrange(rows), rng.randrange(ks)
        names = {"batch": batch, "row": row, "k": k, "nB": atoms["batch"], "nR": atoms["row"], "nK": atoms["k"]}
        assert eval(formula, {}, names) == offsets[batch, row, k], formula  # noqa: S307


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_the_full_drawings_show_every_offset_once(layout: ScaleLayout) -> None:
    grid = "\n".join(draw_atom(layout, full=True)[1:])
    shown = [int(n) for line in grid.splitlines() for n in line.split()[1:]]
    assert sorted(shown) == sorted(set(shown))
    memory = [cell for line in draw_memory(layout, full=True)[1:] for cell in line.split()[1:] if cell != "-"]
    assert len(memory) == len(shown)
    # The memory view is the inverse of the logical one.
    rows = {int(line.split()[0]): [int(n) for n in line.split()[1:]] for line in grid.splitlines()}
    for line in draw_memory(layout, full=True)[1:]:
        start, *cells = line.split()
        for i, cell in enumerate(cells):
            if cell != "-":
                row, k = map(int, cell.split("."))
                assert rows[row][k] == int(start) + i


def test_a_long_atom_is_abridged_around_its_seams() -> None:
    lines = draw_atom(LAYOUTS["blocked_128x4"])
    shown = [line.split()[0] for line in lines[1:]]
    assert shown == [
        "0", "1", "2", "...", "31", "32", "33", "...", "63", "64", "65", "...", "95", "96", "97", "...", "127",
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_the_svg_is_well_formed_and_has_each_cell_twice(layout: ScaleLayout) -> None:
    svg = draw_svg(layout)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    cells = max(layout.atom_size // layout.extent("batch"), 16 if layout.atom_size == 1 else 0)
    colored = re.findall(r'fill="#(?!ffffff|eeeeee)[0-9a-f]{6}"', svg)
    assert len(colored) == 2 * cells


def test_a_layout_that_is_no_bijection_is_refuted_with_the_collision() -> None:
    bad = ScaleLayout("bad", (("row", 4), ("k", 4)), (4, 4), (4, 2))
    text = "\n".join(value for _, value in describe_layout(bad))
    assert "refuted" in text
    assert "both lie at offset" in text


def test_formats_are_described_with_their_value_rule() -> None:
    assert ("value", "element * scale * tensor_scale") in describe_format(FORMATS["nvfp4"])
    assert ("value", "element * scale") in describe_format(FORMATS["mxfp8"])
    assert any("stored once for each 1 x 16" in text for _, text in describe_format(FORMATS["nvfp4_2d"]))


def test_a_tensor_has_padded_scales() -> None:
    rows = dict(describe_tensor(FORMATS["nvfp4"], (3, 200, 96)))
    assert rows["codes"] == "uint8 [3, 200, 48], 28800 bytes"
    assert rows["scales"] == "uint8 [6144], 6144 bytes"
    assert rows["padding"] == f"{6144 - 3 * 200 * 6} scales"
    with pytest.raises(DataError):
        describe_tensor(FORMATS["nvfp4"], (8, 24))
