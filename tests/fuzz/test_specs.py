"""Hostile specs: each ends in kernels or in coded errors with places, within 5 s and 1 GB.

200 of them run with the quick tests. `pytest -m fuzz tests/fuzz` runs 20,000, and 300 of those through the back end.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fp4cc.backend.process import borrow_worker
from fp4cc.targets import NAMES

from . import specs, trial

MUTANTS = 20_000
CHUNK = 200
COMPILED = 300
#: Mutants of the quick tests; with the handmade ones among them about 200.
QUICK = 180


def outcomes(first: int, number: int) -> list[str]:
    """What went wrong with so many mutants from a seed on, a line each."""
    found: list[str] = []
    for seed in range(first, first + number):
        try:
            trial.attempt(specs.mutated(seed))
        except Exception as problem:  # noqa: BLE001  # any of them is a finding
            found.append(f"mutated({seed}): {type(problem).__name__}: {problem}")
    return found


def test_the_same_seed_gives_the_same_spec() -> None:
    assert specs.mutated(7) == specs.mutated(7) != specs.mutated(8)
    assert len(specs.corpus()) > 150 and len(specs.sound()) > 30


@pytest.fixture(scope="module")
def made() -> list[Any]:
    """What becomes of the first mutants. Any exception is a finding."""
    return [trial.attempt(specs.mutated(seed)) for seed in range(QUICK)]


def test_mutants_reach_every_stage(made: list[Any]) -> None:
    """A fuzzer whose specs are all wrong, or all right, tries nothing."""
    assert QUICK // 12 <= sum(bool(outcome.emitted) for outcome in made) <= QUICK // 2
    assert len({code for outcome in made for code in outcome.codes}) >= 30
    assert {target for outcome in made for target, _ in outcome.emitted} == set(NAMES)


def test_a_slow_spec_is_a_finding() -> None:
    with pytest.raises(trial.TooSlow), trial.bounded(0.05):
        for _ in count():
            pass


HANDMADE = specs.handmade()


@pytest.mark.parametrize(
    "name", [name for name in HANDMADE if name.endswith((" 40", " 5", "of 0", "of 9223372036854775807"))]
)
def test_handmade(name: str) -> None:
    trial.attempt(HANDMADE[name])


@pytest.mark.fuzz
@pytest.mark.parametrize("first", range(0, MUTANTS - len(HANDMADE), CHUNK))
def test_twenty_thousand_mutants(first: int) -> None:
    assert outcomes(first, min(CHUNK, MUTANTS - len(HANDMADE) - first)) == []


@pytest.mark.fuzz
@pytest.mark.parametrize("name", HANDMADE)
def test_all_handmade(name: str) -> None:
    trial.attempt(HANDMADE[name])


@pytest.mark.fuzz
@pytest.mark.parametrize("part", range(10))
def test_three_hundred_compile(part: int) -> None:
    """What is emitted, the back end takes: a failure there (FP9002) is a fault of what was emitted."""
    compiled = 0
    for seed in count(part * 1_000_000):
        emitted = trial.attempt(specs.mutated(seed)).emitted
        for (target, name), text in list(emitted.items())[:2]:
            with borrow_worker() as worker:
                made = worker.compile(text, target)
            assert made.cubin and made.ptx, (seed, name)
        compiled += bool(emitted)
        if compiled == COMPILED // 10:
            return
