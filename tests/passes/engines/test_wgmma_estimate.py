"""The time model of wgmma beside what was measured, and what comes of it: which engine takes which sizes on Hopper."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze, specialize
from fp4cc.source import Source
from fp4cc.targets import SM90A
from fp4rt.sizes import evaluate

ROOT = Path(__file__).resolve().parents[3]


def kernels() -> dict[str, Kernel]:
    """Those that were measured."""
    text = (ROOT / "benchmarks" / "hopper_gemm.fp4").read_text()
    return {kernel.name: kernel for kernel in analyze(Source("hopper_gemm.fp4", text)).raise_errors().kernels}


def measured() -> list[tuple[str, int, float]]:
    """Kernel, M and microseconds, of N = K = 8192: the table of benchmarks/hopper.md."""
    found: list[tuple[str, int, float]] = []
    for line in (ROOT / "benchmarks" / "hopper.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 6 and cells[0].endswith(", 8192, 8192"):
            found.append((cells[1], int(cells[0].split(",")[0]), float(cells[2])))
    return found


def plans(kernel: Kernel, **dims: int) -> list[LoweredKernel]:
    lowered = lower(specialize(kernel, dims), "sm_90a", 6)
    return [*lowered.variants, lowered]


def test_measured_times_are_near_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4cc.passes.choice.split.PARTS", (1, 1))  # what was measured is without a split
    known, checked = kernels(), 0
    for name, rows, microseconds in measured():
        kernel = known.get(name)
        if kernel is None or name.endswith("_shared"):  # a schedule of its own, which is slow for another reason
            continue
        last = plans(kernel, N=8192, K=8192)[-1]
        if last.engine is None or last.engine.name != "wgmma" or last.clocks is None:
            continue
        checked += 1
        found = int(evaluate(last.clocks, {"M": rows})) / (SM90A.rates.clock_ghz * 1e3)
        assert found == pytest.approx(microseconds, rel=0.15), (name, rows)
    assert checked >= 9


def test_few_rows_are_the_decoding_engines() -> None:
    """A threshold that nobody has written down."""
    text = "kernel k(M, N, K) { in a : bf16[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
    kernel = analyze(Source("k.fp4", text)).raise_errors().kernels[0]
    few, *rest = plans(kernel, N=8192, K=8192)
    assert few.engine is not None
    assert (few.engine.name, few.when) == ("decode", ("le", "M", 16))
    assert {each.engine.name for each in rest if each.engine is not None} == {"wgmma_rs"}
    for size, name in ((1, "decode"), (16, "decode"), (17, "wgmma_rs")):
        (only,) = plans(kernel, M=size, N=8192, K=8192)
        assert only.engine is not None
        assert only.engine.name == name
