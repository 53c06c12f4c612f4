"""Hostile manifests: each is refused with a code, or runs to an end on the reference and on the emulator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from .artifacts import COMPILED, EXAMPLES, Good, compiled, hand_made, outcome, typed
from .mutations import mutate_json


@cache
def _quick_goods() -> tuple[Good, ...]:
    return (hand_made(), *(typed(name) for name in EXAMPLES))


@cache
def _all_goods() -> tuple[Good, ...]:
    return (hand_made(), *(typed(name) for name in EXAMPLES), *(compiled(name) for name in COMPILED))


def _run(goods: Sequence[Good], cases: int, seed: int, folder: Path) -> Counter[str]:
    """Spoil a manifest `cases` times; how often each outcome came."""
    found: Counter[str] = Counter()
    for index in range(cases):
        rng = random.Random(f"{seed} {index}")
        good = goods[index % len(goods)]
        others = [rng.choice(goods).manifest]
        case = mutate_json(rng, good.manifest, others)
        for name, content in good.artifact.files.items():
            (folder / name).write_bytes(content)
        path = folder / "hostile.json"
        path.write_bytes(case.text)
        steps = outcome(path, good.arguments, f"case {seed} {index}, {good.name}, {case.what}")
        found.update(f"{step}: {result}" for step, result in steps.items())
    return found


def test_good_ones_run(tmp_path: Path) -> None:
    for good in _quick_goods():
        path = good.artifact.save(tmp_path)
        steps = outcome(path, good.arguments, good.name)
        assert steps["load"] == steps["reference"] == "fine", good.name
        assert steps["emulator"] == ("fine" if good.artifact.files else "FP6302"), good.name


def test_a_hundred(tmp_path: Path) -> None:
    found = _run(_quick_goods(), 70, 1, tmp_path)
    assert found["load: fine"] >= 5  # some edits change nothing that matters: what loads must run, too
    assert found["load: FP6002"] >= 15


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(2, 22))
def test_two_thousand(seed: int, tmp_path: Path) -> None:
    found = _run(_all_goods(), 100, seed, tmp_path)
    assert found["load: fine"] >= 5
