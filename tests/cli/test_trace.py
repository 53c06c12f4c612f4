"""`fp4cc trace`: what it prints, and the file for Perfetto."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
SIZES = ("--set", "M=128", "--set", "N=128", "--set", "K=256")


def test_a_call_in_time(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    ran = fp4cc("trace", gemm, *SIZES, "-o", out)
    assert ran.status == 0, ran.err
    assert "gemm for sm_100a at M = 128, N = 128, K = 256" in ran.out
    for part in ("% of the roofline", "the closed form of fp4cc explain", "limited by", "warp 0", "tensor core", "TMA"):
        assert part in ran.out
    found = json.loads(out.read_text())
    tracks = {e["args"]["name"] for e in found["traceEvents"] if e["name"] == "thread_name"}
    assert {"TMA", "tensor core", "warp 0", "DRAM share"} <= tracks
    assert all(e["dur"] > 0 for e in found["traceEvents"] if e["ph"] == "X")
    machine = found["otherData"]
    assert machine["seconds"] > machine["roofline_seconds"] > 0
    assert f"{machine['seconds'] * 1e6:.2f} us" in ran.out
    (launch,) = machine["launches"]
    assert not launch["sampled"]
    assert 0 < launch["busy"]["tensor core"] < 1


def test_a_call_of_no_rows_has_no_time(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("trace", gemm, "--set", "N=128", "--set", "K=256", "--at", "M=0")
    assert ran.status == 2
    assert "launches nothing" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_a_part_stands_for_the_whole(fp4cc: Run, gemm: Path, target: str) -> None:
    """A CTA has several tiles: with all of them run, and with two, the time is about the same."""
    sizes = ("--set", "M=4096", "--set", "N=4096", "--set", "K=512", "--target", target, "--json")
    every, few = (json.loads(fp4cc("trace", gemm, *sizes, "--tiles", n).out) for n in (64, 2))
    assert [one["launches"][-1]["sampled"] for one in (every, few)] == [False, True]
    assert few["seconds"] == pytest.approx(every["seconds"], rel=0.1)
