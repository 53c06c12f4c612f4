"""The emulator does what a Hopper GPU did: a sample of the recorded programs with the quick tests, all with `slow`."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from . import golden, warps
from .emulated import run
from .families import FAMILIES
from .program import Near, Program

EVERY = 96
"""One program of so many is in the sample."""


def _wrong(family: str, programs: list[Program]) -> list[str]:
    recorded = golden.load(family)
    wrong: list[str] = []
    for program in programs:
        given, output = recorded[program.name]
        assert given == program.given(), f"{program.name} has changed since it was recorded"
        if not golden.same(program, run(program), output):
            wrong.append(program.name)
    return wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_of_each_family(family: str) -> None:
    programs = list(FAMILIES[family]())
    start = zlib.crc32(family.encode()) % EVERY % len(programs)
    assert _wrong(family, programs[start::EVERY]) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_each_family(family: str) -> None:
    programs = list(FAMILIES[family]())
    assert len({program.name for program in programs}) == len(programs)
    assert set(golden.load(family)) == {program.name for program in programs}
    assert _wrong(family, programs) == []


def test_a_wrong_result_is_found() -> None:
    program = next(warps.atomics())
    found = bytearray(run(program))
    _, output = golden.load("atomics")[program.name]
    found[5] ^= 1
    assert not golden.same(program, bytes(found), output)


def test_near_results_are_near() -> None:
    near = Near("f4", relative=2.0**-20)
    one, inf, nan = (np.float32(x).tobytes() for x in (1, np.inf, np.nan))
    assert near.holds(np.float32(1 + 2.0**-21).tobytes(), one)
    assert not near.holds(np.float32(1 + 2.0**-18).tobytes(), one)
    assert near.holds(nan, nan) and near.holds(inf, inf)
    assert not near.holds(nan, one) and not near.holds(inf, one) and not near.holds(one, nan)


@pytest.mark.slow
def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in golden.FOLDER.iterdir()) < 1_000_000
