"""`fp4cc tune`: on a GPU that is played by the reference with a made-up clock, and without one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4cc.backend import Compiled
from fp4cc.driver import Request, read_spec
from fp4cc.driver.stages import lower_kernels
from fp4cc.explain.work import choose
from fp4rt import Artifact
from fp4rt.devices.reference import ReferenceDevice
from fp4rt.errors import DeviceError
from fp4rt.typed import TypedKernel
from fp4rt.work import Product

Run = Callable[..., Any]
SIZES = ("--target", "sm_90a", "--set", "N=64", "--set", "K=128")
FEW = (*SIZES, "--set", "M=1,40", "--top", "2")


class Wrong(ReferenceDevice):
    """The reference, but for the kernels of some turns, of which one number of the output is another."""

    name = "wrong"

    def __init__(self, turns: Sequence[int]) -> None:
        super().__init__()
        self.turns, self.loads = turns, 0

    def load(self, artifact: Artifact) -> Any:
        made, self.loads = super().load(artifact), self.loads + 1
        if self.loads not in self.turns:
            return made
        bind = made.bind

        def wrongly(call: Any, plan: Any, stream: object | None) -> Any:
            run = bind(call, plan, stream)

            def launch(stream: object | None) -> None:
                run(stream)
                call.outputs["c"].view(np.uint16)[0, 0] ^= 1

            return launch

        made.bind = wrongly  # type: ignore[method-assign]
        return made


class Gpu:
    """The reference with a clock that says in each turn what the test has written down, in us, and then 9; and of what
    takes turns, the compiler's own plan, 8."""

    name, driver = "some GPU", "570.1"
    script: Sequence[float] = ()
    device: Any = "reference"
    stop_at: int = 0
    turns: int = 0

    def __init__(self, device: str) -> None:
        assert device == "cuda"

    def sets(self, size: int) -> int:
        return 1

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return dict(arguments)

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[Callable[[int], object], int]]:
        raise AssertionError("nothing is compared with cuBLAS")

    def times(self, work: Mapping[str, Any], launches: int, passes: int) -> dict[str, list[float]]:
        cls = type(self)
        cls.turns += 1
        if cls.turns == cls.stop_at:
            raise KeyboardInterrupt
        us = cls.script[cls.turns - 1] if cls.turns <= len(cls.script) else 9.0
        return {name: [1e-6 * (8 if name else us)] * passes for name in work}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Gpu]:
    """The GPU, a compiler that takes no time, and a cache of the test's own."""

    class Played(Gpu):
        script: Sequence[float] = ()

    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", Played)
    monkeypatch.setattr("fp4cc.backend.process._kept", None)
    monkeypatch.setattr("fp4cc.backend.process.Worker.__init__", lambda self: None)
    monkeypatch.setattr("fp4cc.backend.process.Worker.close", lambda self: None)
    monkeypatch.setattr(
        "fp4cc.backend.process.Worker.compile", lambda self, kernel, arch, **_: Compiled("//\n", kernel.encode())
    )
    monkeypatch.setenv("FP4CC_CACHE_DIR", str(tmp_path / "cache"))
    return Played


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> Any:
        raise DeviceError("there is no GPU that torch can use: a kernel is timed on one", code="FP6302")

    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", none)


def blocks(path: Path) -> list[str]:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    return [" ".join(block.split()) for block in re.findall(r"schedule[^}]*}", text)]


def test_the_fastest_is_written_and_taken_in_by_name(fp4cc: Run, gemm: Path, gpu: type[Gpu]) -> None:
    # A round has one schedule of each size: the compiler's own of M = 1 and of M = 40, then the next of both, ...
    gpu.script = [8, 8, 7, 8, 3, 8]
    ran = fp4cc("tune", gemm, *FEW)
    assert ran.status == 0, ran.err
    tuned = gemm.with_suffix(".tuned.fp4")
    (block,) = blocks(tuned)
    assert block.startswith("schedule gemm on sm_90a when M <= 1 and N == 64 and K == 128 { ")
    text = tuned.read_text()
    assert "# GPU        some GPU, driver 570.1" in text
    assert re.search(r"^# date       \d{4}-\d\d-\d\d$", text, re.M)
    assert re.search(r"^# toolchain  fp4cc \S+, nvidia-cutlass-dsl", text, re.M)
    assert re.search(r"^#    1  64  128     8.00       3.00  2.67  ", text, re.M)
    assert "the compiler's own: wgmma" in text
    assert "schedules for 1 of 2 calls" in ran.out
    gemm.write_text('use "gemm.tuned.fp4"\n' + gemm.read_text())
    (lowered,) = lower_kernels(Request(read_spec(gemm), "sm_90a"))[0]
    taken = choose(lowered, {"M": 1, "N": 64, "K": 128}).plan
    assert taken.schedule is not None
    assert taken.schedule.span.source.name.endswith(tuned.name)
    assert choose(lowered, {"M": 40, "N": 64, "K": 128}).plan.schedule is None


@pytest.mark.slow
def test_what_was_measured_is_remembered(fp4cc: Run, gemm: Path, gpu: type[Gpu]) -> None:
    gpu.script, one = [8, 7, 3], (*SIZES, "--set", "M=1", "--top", "1")
    assert fp4cc("tune", gemm, *one).status == 0
    tuned = gemm.with_suffix(".tuned.fp4")
    first, turns = tuned.read_text(), gpu.turns
    refused = fp4cc("tune", gemm, *one)
    assert (refused.status, "gemm.tuned.fp4 exists: --force replaces it" in refused.err) == (2, True)
    again = fp4cc("tune", gemm, *one, "--force")
    assert (again.status, gpu.turns) == (0, turns)
    assert f"{turns} of {turns} were measured by an earlier run" in again.err
    assert tuned.read_text() == first
    gpu.driver = "571.0"  # another driver knows nothing of it
    assert fp4cc("tune", gemm, *one, "--force").status == 0
    assert gpu.turns == 2 * turns


@pytest.mark.slow
def test_a_schedule_that_differs_is_dropped_and_reported(fp4cc: Run, gemm: Path, gpu: type[Gpu]) -> None:
    gpu.device = Wrong([4])  # loaded: the compiler's own, the second and that again, the third
    gpu.script = [8, 2, 7]
    ran = fp4cc("tune", gemm, *SIZES, "--set", "M=40", "--top", "2", "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["ok"]) == (1, False)
    (call,) = found["calls"]
    (dropped,) = call["dropped"]
    assert "differs from the reference" in dropped["wrong"]
    assert call["seconds"] == pytest.approx(2e-6)
    text = gemm.with_suffix(".tuned.fp4").read_text()
    assert "# dropped at M = 40, N = 64, K = 128: wgmma" in text


def test_ctrl_c_keeps_what_is_done(fp4cc: Run, gemm: Path, gpu: type[Gpu]) -> None:
    gpu.script, gpu.stop_at = [8, 8, 3], 4
    ran = fp4cc("tune", gemm, *FEW)
    assert ran.status == 130
    (block,) = blocks(gemm.with_suffix(".tuned.fp4"))
    assert "when M <= 1 and" in block


@pytest.mark.slow
def test_a_budget_ends_it_after_whole_rounds_for_all_sizes(
    fp4cc: Run, gemm: Path, gpu: type[Gpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fp4rt.tune.Clock.over", property(lambda self: gpu.turns >= 3))
    gpu.script = [8, 8, 3]
    ran = fp4cc("tune", gemm, *FEW, "--budget", "5")
    assert ran.status == 0
    assert re.search(r"time is up: 3 of \d+ were measured", ran.err)
    assert len(blocks(gemm.with_suffix(".tuned.fp4"))) == 1


def test_without_a_gpu_the_model_decides_and_the_file_says_so(
    fp4cc: Run, gemm: Path, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fp4cc.tuning.ways.MOST_PLANS", 1)  # the compiler's one plan for all sizes does not split K
    ran = fp4cc("tune", gemm, "--target", "sm_90a", "--set", "M=64", "--set", "N=64", "--set", "K=8192", "--top", "2")
    assert ran.status == 0
    assert "schedules are ranked by the model alone: nothing was measured" in ran.err
    text = gemm.with_suffix(".tuned.fp4").read_text()
    assert "# GPU        none: ranked by the compiler's model alone, nothing was measured" in text
    (block,) = blocks(gemm.with_suffix(".tuned.fp4"))
    assert "split_k" in block  # a tile or two, and a long way along K
    assert block.startswith("schedule gemm on sm_90a when M > 32 and M <= 64 and N == 64 and K == 8192 {")


@pytest.mark.slow
def test_compiled_here_measured_there_and_written_here(
    fp4cc: Run, gemm: Path, gpu: type[Gpu], capsys: pytest.CaptureFixture[str]
) -> None:
    from fp4rt.tune import main

    work = gemm.parent / "work"
    assert fp4cc("tune", gemm, *FEW, "--prepare", work).status == 0
    assert gpu.turns == 0
    assert not gemm.with_suffix(".tuned.fp4").exists()
    early = fp4cc("tune", gemm, "--target", "sm_90a", "--from", work)
    assert (early.status, "run python -m fp4rt.tune on it first" in early.err) == (1, True)
    gpu.script = [8, 8, 7, 8, 3, 8]
    assert main([str(work)]) == 0
    assert "M = 1, N = 64, K = 128: wgmma" in capsys.readouterr().out
    assert fp4cc("tune", gemm, "--target", "sm_90a", "--from", work).status == 0
    (block,) = blocks(gemm.with_suffix(".tuned.fp4"))
    assert "when M <= 1 and" in block
    gemm.write_text(gemm.read_text().replace("bf16", "f32"))
    stale = fp4cc("tune", gemm, "--target", "sm_90a", "--from", work, "--force")
    assert (stale.status, "was prepared from another kernel than gemm is now" in stale.err) == (2, True)
    (work / "results.json").write_text('{"schema": 1, "spec": []}')
    assert (
        "is not what `fp4cc tune` or `fp4rt.tune` writes"
        in fp4cc("tune", gemm, "--target", "sm_90a", "--from", work, "--force").err
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "M=1,x"), "'M=1,x' is not NAME=SIZE or NAME=SIZE,SIZE,..."),
        (("--set", "M=1"), "tune needs sizes of N, K: for example --set N=4096"),
        ((), "tune needs sizes of M, N, K: for example --set M=1,16,64"),
        (("--set", "Q=1"), "gemm has no dimension Q; dimensions: M, N, K"),
        (("--set", "M=0", "--set", "N=64", "--set", "K=64"), "a size of M is from 1 to"),
        (("--prepare", "a", "--from", "."), "give one of them"),
        (("--target", "sm_80"), "kernels cannot be compiled for sm_80"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(fp4cc: Run, gemm: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = fp4cc("tune", gemm, *arguments)
    assert ran.status == 2
    assert said in ran.err


def test_a_kernel_without_products_has_nothing_to_tune(fp4cc: Run, tmp_path: Path, no_gpu: None) -> None:
    spec = tmp_path / "twice.fp4"
    spec.write_text("kernel twice(M, N) { in x : bf16[M, N]; out y : bf16[M, N]; y = 2 * x }\n")
    ran = fp4cc("tune", spec, "--set", "M=1", "--set", "N=64")
    assert (ran.status, "twice has nothing to tune" in ran.err) == (2, True)


def test_a_block_that_always_applies_leaves_nothing_to_tune(fp4cc: Run, gemm: Path, no_gpu: None) -> None:
    gemm.write_text(gemm.read_text() + "schedule gemm on sm_90a { stages 4 }\n")
    ran = fp4cc("tune", gemm, *FEW)
    assert (ran.status, "without `when` for sm_90a in the spec itself" in ran.err) == (2, True)
    assert not gemm.with_suffix(".tuned.fp4").exists()
