"""The replay of `fp4cc trace` beside times measured on an H100 (benchmarks/trace_hopper.json).

All 52 calls: `python benchmarks/trace_model.py record` and `compare`; here some that are recorded quickly.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fp4cc.driver.request import Request
from fp4cc.driver.spec import spec_at
from fp4cc.trace.run import traced

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CALLS = {call["name"]: call for call in json.loads((BENCHMARKS / "trace_hopper.json").read_text())["calls"]}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["w4a16_4x4096x4096", "w4a16_16x8192x8192", "rows_16x4096x4096", "rows_64x8192x8192", "quantizer_4096x4096",
     "mx_quantizer_8192x8192", "mxfp4_1024x1024x1024", "bf16_pair_64x8192x8192"],
)  # fmt: skip
def test_a_call_is_about_as_fast_as_measured(name: str) -> None:
    call = CALLS[name]
    request = Request(spec_at(str(BENCHMARKS / "trace_hopper.fp4")), "sm_90a", call["sizes"], call["kernel"])
    found = traced(request, {}, 3, use_cache=True, step=lambda _: None)
    assert found.seconds * 1e6 == pytest.approx(call["us"], rel=0.2)
