"""The closed form of `explain` beside times measured on an H100 (benchmarks/trace_hopper.json)."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fp4cc.driver.request import Request
from fp4cc.driver.spec import spec_at
from fp4cc.driver.stages import lower_kernels
from fp4cc.explain.closed import together
from fp4cc.explain.report import call_seconds
from fp4cc.explain.work import choose
from fp4cc.targets import SM90A, SM100A
from fp4rt.timing import values

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CALLS: dict[str, dict[str, Any]] = {
    call["name"]: call for call in json.loads((BENCHMARKS / "trace_hopper.json").read_text())["calls"]
}


def held_back() -> list[str]:
    """The half that no parameter was fitted to, as benchmarks/trace_model.py draws it."""
    drawn = sorted(CALLS)
    random.Random(12).shuffle(drawn)
    return sorted(drawn[len(drawn) // 2 :])


def errors(names: Iterable[str]) -> dict[str, float]:
    """|estimated / measured - 1| of calls."""
    found: dict[str, float] = {}
    for name in names:
        call = CALLS[name]
        spec = spec_at(str(BENCHMARKS / "trace_hopper.fp4"))
        lowered, _ = lower_kernels(Request(spec, "sm_90a", call["sizes"], call["kernel"]))
        chosen = choose(lowered[0], {})
        seconds = call_seconds(chosen.plan, chosen.sizes)
        assert seconds is not None, name
        found[name] = abs(seconds * 1e6 / call["us"] - 1)
    return found


def test_the_table_has_what_it_should() -> None:
    assert len(CALLS) >= 40
    assert len(held_back()) >= 20
    assert {"nvfp4", "mxfp4", "mxfp8", "w4a16", "rows", "blocks", "bf16_pair", "quantizer", "both", "residual"} <= {
        call["kernel"] for call in CALLS.values()
    }


def test_some_calls_that_nothing_was_fitted_to() -> None:
    names = ["w4a16_64x8192x8192", "rows_64x8192x8192", "nvfp4_2048x2048x2048"]
    assert set(names) <= set(held_back())
    assert max(errors(names).values()) < 0.15


@pytest.mark.slow
def test_the_errors_on_the_half_that_was_held_back() -> None:
    found = sorted(errors(held_back()).values())
    assert statistics.median(found) <= 0.15
    assert found[int(0.9 * len(found))] <= 0.30


@pytest.mark.parametrize(
    ("a", "b", "power", "found"), [(3.0, 4.0, 2.0, 5.0), (3.0, 4.0, 1e3, 4.0), (0.0, 0.0, 2.0, 0.0)]
)
def test_two_times_beside_each_other(a: float, b: float, power: float, found: float) -> None:
    assert together(a, b, power) == pytest.approx(found)
    assert together(b, a, power) == pytest.approx(found)


@pytest.mark.parametrize("chip", [SM90A, SM100A], ids=lambda chip: chip.name)
def test_targets_have_their_rates_from_the_file(chip: Any) -> None:
    found = values(chip.name)
    assert chip.rates.dram_bytes_per_s == found["dram_bytes_per_s"]
    assert (chip.rates.sms, chip.rates.clock_ghz) == (found["sms"], found["base_clock_ghz"])
