"""What is timed, compared and computed by `fp4rt.bench`, on a device that needs no GPU and a clock that is made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4num import FORMATS
from fp4rt import ArgumentError, Artifact, Kernel, bench
from fp4rt.devices.reference import ReferenceDevice
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value
from fp4rt.work import Memory, Product, memory, products

from .conftest import MakeGemm, uncompiled

Load = Callable[[TypedKernel], Kernel]


class Clock:
    """Runs each work once over its sets; the first takes 2 us, the others 3, 4, ..."""

    def __init__(self) -> None:
        self.placed_times = 0
        self.parts: list[Product] = []

    def sets(self, size: int) -> int:
        return 3

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.placed_times += 1
        return dict(arguments)

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[bench.Work, int]]:
        self.parts = list(parts)
        return {"bf16": (lambda i: None, 1)} if parts else {}

    def times(self, work: Mapping[str, tuple[bench.Work, int]], launches: int, passes: int) -> dict[str, list[float]]:
        for run, sets in work.values():
            for i in range(sets):
                run(i)
        return {name: [1e-6 * (2 + place)] * passes for place, name in enumerate(work)}


def test_a_call_is_compared_and_timed_over_sets_of_buffers(gemm: TypedKernel, reference: Load) -> None:
    clock = Clock()
    found = bench.measure(reference(gemm), {"M": 20, "N": 128, "K": 64}, clock, passes=5)
    assert clock.placed_times == 3
    assert clock.parts == [Product(1, 20, 128, 64)]
    assert found.checked == found.sizes == {"M": 20, "N": 128, "K": 64}
    assert found.flop == 2 * 20 * 128 * 64
    # Codes of half a byte; a scale for 16 elements, in atoms of 128 rows x 4; a tensor scale each; bf16 out.
    assert found.bytes == 20 * 32 + 512 + 4 + 128 * 32 + 512 + 4 + 2 * 20 * 128
    assert found.time == bench.Time(2e-6, 2e-6, 2e-6)
    assert found.flops == pytest.approx(found.flop / 2e-6)
    assert found.json()["peers"] == {
        "bf16": {"seconds": {"median": 3e-6, "low": 3e-6, "high": 3e-6}, "speedup": pytest.approx(1.5)}
    }


def test_a_time_is_a_median_with_its_quartiles() -> None:
    assert bench.Time.of([5.0, 1.0, 2.0, 4.0, 3.0]) == bench.Time(3.0, 2.0, 4.0)
    assert bench.Time.of([7.0]) == bench.Time(7.0, 7.0, 7.0)


class Wrong(ReferenceDevice):
    """Changes one number of each output of the calls it runs."""

    name = "wrong"

    def load(self, artifact: Artifact) -> Any:
        made = super().load(artifact)
        bind = made.bind

        def wrongly(call: Any, plan: Any, stream: object | None) -> Any:
            run = bind(call, plan, stream)

            def launch(stream: object | None) -> None:
                run(stream)
                call.outputs["c"].view(np.uint16)[0, 0] ^= 1

            return launch

        made.bind = wrongly  # type: ignore[method-assign]
        return made


def test_a_kernel_that_differs_is_not_timed(gemm: TypedKernel) -> None:
    clock = Clock()
    kernel = uncompiled(gemm).load_kernel(Wrong())
    with pytest.raises(bench.Different, match="FP6308: gemm at M = 8, N = 32, K = 32 differs from the reference: c"):
        bench.measure(kernel, {"M": 8, "N": 32, "K": 32}, clock)
    assert clock.placed_times == 0


def test_a_large_call_is_compared_at_smaller_sizes(
    gemm: TypedKernel, reference: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, sizes = reference(gemm), {"M": 96, "N": 200, "K": 128}
    assert bench.check(kernel, sizes) == sizes
    monkeypatch.setattr(bench, "_REFERENCE", 2 * 64 * 64 * 64)
    assert bench.check(kernel, sizes) == {"M": 64, "N": 64, "K": 64}
    monkeypatch.setattr(bench, "_REFERENCE", 1000)
    assert bench.check(kernel, sizes) is None


def test_sizes_that_are_missing_are_named(gemm: TypedKernel, reference: Load) -> None:
    with pytest.raises(ArgumentError, match="FP6110: gemm needs a size for M, K"):
        bench.measure(reference(gemm), {"N": 32}, Clock())


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ([], [{}]),
        (["M=1,16", "N=4"], [{"M": 1, "N": 4}, {"M": 16, "N": 4}]),
        (["M=1,2", "N=3,4"], [{"M": 1, "N": 3}, {"M": 1, "N": 4}, {"M": 2, "N": 3}, {"M": 2, "N": 4}]),
    ],
)
def test_each_combination_of_sizes_is_a_call(given: list[str], calls: list[dict[str, int]]) -> None:
    assert bench.calls_of(given) == calls


@pytest.mark.parametrize("given", [["M"], ["M="], ["M=1,"], ["=1"], ["M=x"], ["M=-1"], ["M=1", "M=2"], ["M=²"]])
def test_what_cannot_be_read_as_sizes(given: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not NAME=SIZE|is given twice"):
        bench.calls_of(given)


def test_the_memory_of_each_argument(make_gemm: MakeGemm) -> None:
    dims = {"M": 130, "N": 256, "K": 256}
    found = memory(make_gemm(FORMATS["nvfp4"], FORMATS["mxfp8_e4m3"]), dims)
    assert found == [
        Memory("a", "activations", 130 * 128, 256 * 16 + 4, 2 * 130 * 256, 130 * 256),
        Memory("b", "weights", 256 * 256, 256 * 8, 2 * 256 * 256, 256 * 256),
        Memory("c", "output", 2 * 130 * 256, 0, 2 * 130 * 256, 130 * 256),
    ]


def test_batches_and_unnamed_axes_of_a_product() -> None:
    axes = (Axis("L", "L"), Axis(None, 48), Axis("K", "K"))
    args = (
        Arg("a", "in", "bf16", axes),
        Arg("b", "in", "bf16", (Axis("K", "K"), Axis("N", "N"))),
        Arg("at", "in", "i32", (Axis("L", "L"),)),
        Arg("c", "out", "f32", (Axis("L", "L"), Axis(None, 48), Axis("N", "N"))),
    )
    values = (
        Value("arg", (), "bf16", ("L", "axis1", "K"), {"name": "a"}),
        Value("arg", (), "bf16", ("K", "N"), {"name": "b"}),
        Value("matmul", (0, 1), "f32", ("L", "axis1", "N"), {"k": "K"}),
    )
    kernel = TypedKernel("k", (Dim("L"), Dim("N"), Dim("K")), args, values, (Store("c", 2),))
    dims = {"L": 3, "N": 40, "K": 16}
    assert products(kernel, dims) == [Product(3, 48, 40, 16)]
    assert [one.kind for one in memory(kernel, dims)] == ["activations", "weights", "other", "output"]
    assert memory(kernel, dims)[2] == Memory("at", "other", 12, 0, 12, 12)


def test_the_command_line_says_where_there_is_no_gpu(
    gemm: TypedKernel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> Any:
        raise ImportError(name)

    uncompiled(gemm).save(tmp_path)
    monkeypatch.setattr("fp4rt.cuda.timing.import_module", gone)
    assert bench.main([str(tmp_path / "gemm.json"), "--at", "M=1"]) == 3
    assert capsys.readouterr().err == (
        "error[FP6302]: a kernel is timed on a GPU by torch, which is not installed\n"
        "  = help: pip install torch, on a machine with a GPU\n"
    )


def test_the_command_line_prints_a_table(
    gemm: TypedKernel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gpu(Clock):
        name, device = "some GPU", "reference"

        def __init__(self, device: str) -> None:
            super().__init__()

    uncompiled(gemm).save(tmp_path)
    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", Gpu)
    arguments = [str(tmp_path / "gemm.json"), "--at", "M=1,20", "--at", "N=128", "--at", "K=64"]
    assert bench.main(arguments) == 0
    assert capsys.readouterr().out == (
        "gemm for sm_100a on some GPU\n"
        " M    N   K  plan    us  quartiles  TFLOP/s  GB/s  cuBLAS bf16, us  x bf16\n"
        " 1  128  64     -  2.00  2.00-2.00      0.0     3             3.00    1.50\n"
        "20  128  64     -  2.00  2.00-2.00      0.2     5             3.00    1.50\n"
    )
    assert bench.main([*arguments, "--json"]) == 0
    assert '"device": "some GPU"' in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        bench.main([*arguments, "--at", "L"])
    assert stop.value.code == 2
