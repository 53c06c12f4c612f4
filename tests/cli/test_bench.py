"""`fp4cc bench`: on a GPU that is played by the emulator, and without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fp4rt.errors import DeviceError
from fp4rt.typed import TypedKernel
from fp4rt.work import Product

Run = Callable[..., Any]
SIZES = ("--at", "M=1,40", "--at", "N=64", "--at", "K=64")


class Gpu:
    """The emulator with a clock that says 2 us for the kernel and 3 for what it is compared with."""

    name, device = "some GPU", "emulator"

    def __init__(self, device: str) -> None:
        assert device == "cuda"

    def sets(self, size: int) -> int:
        return 1

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return dict(arguments)

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[Callable[[int], object], int]]:
        return {"bf16": (lambda i: None, 1)}

    def times(self, work: Mapping[str, Any], launches: int, passes: int) -> dict[str, list[float]]:
        return {name: [1e-6 * (3 if name else 2)] * passes for name in work}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", Gpu)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> Any:
        raise DeviceError("there is no GPU that torch can use: a kernel is timed on one", code="FP6302")

    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", none)


def test_calls_are_timed_beside_cublas_and_the_estimate(fp4cc: Run, gemm: Path, gpu: None, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    ran = fp4cc("bench", gemm, *SIZES, "--plans", "1", "--chart", chart)
    assert ran.status == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "gemm for sm_100a on some GPU"
    head = "M N K plan us quartiles TFLOP/s GB/s cuBLAS bf16, us x bf16 estimate, us % of roofline"
    assert " ".join(lines[1].split()) == head
    assert [line.split()[0] for line in lines[2:4]] == ["1", "40"]
    assert all("2.00-2.00" in line and "1.50" in line for line in lines[2:4])
    assert any(line.startswith("memory at M = 40, N = 64, K = 64") for line in lines)
    text = chart.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert "<svg" in text


def test_the_same_for_machines(fp4cc: Run, gemm: Path, gpu: None) -> None:
    ran = fp4cc("bench", gemm, *SIZES, "--plans", "1", "--json")
    found = json.loads(ran.out)
    assert (found["ok"], found["device"], len(found["calls"])) == (True, "some GPU", 2)
    (first, _) = found["calls"]
    assert first["sizes"] == first["checked"] == {"M": 1, "N": 64, "K": 64}
    assert first["seconds"]["median"] == 2e-6
    assert first["peers"]["bf16"]["speedup"] == pytest.approx(1.5)
    assert [one["kind"] for one in first["estimate"]["memory"]] == ["activations", "weights", "output"]


def test_without_a_gpu_the_estimate_is_printed(fp4cc: Run, gemm: Path, no_gpu: None) -> None:
    ran = fp4cc("bench", gemm, "--set", "N=4096", "--set", "K=4096")
    assert ran.status == 3
    assert ran.out.startswith("gemm for sm_100a: estimated, not measured\n")
    assert [line.split()[0] for line in ran.out.splitlines()[2:8]] == ["1", "16", "64", "256", "1024", "4096"]
    assert "there is no GPU that torch can use" in ran.err
    found = json.loads(fp4cc("bench", gemm, *SIZES, "--json").out)
    assert (found["ok"], found["device"], found["diagnostics"][0]["code"]) == (False, None, "FP6302")
    assert all(call["estimate"]["roofline_seconds"] > 0 for call in found["calls"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at", "M=1,x"), "'M=1,x' is not NAME=SIZE or NAME=SIZE,SIZE,..."),
        (("--at", "M=1", "--at", "M=2"), "M is given twice; separate sizes by commas: M=1,16"),
        (("--at", "Q=1"), "no kernel has a dimension Q"),
        (("--set", "M=1", "--at", "M=2"), "M is given twice: --set fixes it in the kernel"),
        (("--chart", "chart.pdf"), "--chart chart.pdf: a chart is written as .svg or .png"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_timed(
    fp4cc: Run, gemm: Path, gpu: None, arguments: tuple[str, ...], said: str
) -> None:
    ran = fp4cc("bench", gemm, *arguments)
    assert ran.status == 2
    assert said in ran.err


def test_a_chart_without_its_library(fp4cc: Run, gemm: Path, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4cc.cli.chart.find_spec", lambda name: None)
    ran = fp4cc("bench", gemm, "--chart", "chart.svg")
    assert (ran.status, "pip install 'fp4cc[chart]'" in ran.err) == (2, True)
