"""Measuring prepared schedules: in which order, against what, and what is kept. No compiler and no GPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fp4rt import Artifact, ArtifactError, tune, tuning
from fp4rt.bench import Time
from fp4rt.devices.reference import ReferenceDevice
from fp4rt.errors import RuntimeFault
from fp4rt.typed import TypedKernel
from fp4rt.work import Product

from .conftest import uncompiled

SIZES = ({"M": 2, "N": 32, "K": 32}, {"M": 3, "N": 32, "K": 32})


class Gpu:
    """The reference with a clock: what is measured takes 2 us, what it takes turns with 4."""

    name, driver, device = "some GPU", "570.1", "reference"

    def __init__(self, device: str = "cuda") -> None:
        self.placed_times = 0

    def sets(self, size: int) -> int:
        return 2

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.placed_times += 1
        return dict(arguments)

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[Callable[[int], object], int]]:
        raise AssertionError("cuBLAS plays no part")

    def times(self, work: Mapping[str, Any], launches: int, passes: int) -> dict[str, list[float]]:
        for run, sets in work.values():
            for i in range(sets):
                run(i)
        return {name: [4e-6 if name else 2e-6] * passes for name in work}


@pytest.fixture
def folder(gemm: TypedKernel, tmp_path: Path) -> Path:
    """Two calls of three schedules and of two."""
    ways = [tuning.Way(f"a{i}", None if i == 0 else (f"stages {i}",), f"way {i}", 1e-6) for i in range(3)]
    calls = tuple(
        tuning.Call(sizes, "M", sizes["M"] - 1, sizes["M"], {}, tuple(ways[:count]))
        for sizes, count in zip(SIZES, (3, 2), strict=True)
    )
    work = tuning.Work("gemm", "sm_100a", "spec", {"fp4cc": "1"}, calls)
    for way in ways:
        uncompiled(gemm).save(tmp_path / way.artifact)
    (tmp_path / tuning.WORK).write_text(json.dumps(work.json()))
    return tmp_path


def test_every_call_has_its_turn_before_any_has_its_second(folder: Path) -> None:
    said: list[str] = []
    kept: list[tuning.Attempt] = []
    gpu = Gpu()
    found = tune.measure_folder(folder, gpu, tune.Clock(None), said.append, kept)
    assert [(a.sizes["M"], a.artifact) for a in kept] == [(2, "a0"), (3, "a0"), (2, "a1"), (3, "a1"), (2, "a2")]
    assert [a.ratio for a in kept] == [None, None, 0.5, 0.5, 0.5]
    assert all(a.checked == a.sizes for a in kept)
    assert gpu.placed_times == 2 * 2 + 3 * 4  # two sets each, and of the compiler's own beside the others
    assert said[2] == "3 of 5: M = 2, N = 32, K = 32: way 1: 2.00 us, the compiler's own plan 4.00 us"
    assert tuning.parse_results((folder / tuning.RESULTS).read_text()) == found
    assert (found.gpu, found.driver, found.spec) == ("some GPU", "570.1", "spec")


def test_the_reference_is_made_once_for_each_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    original = ReferenceDevice.load

    def counted(self: ReferenceDevice, artifact: Artifact) -> Any:
        runs.append(1)
        return original(self, artifact)

    monkeypatch.setattr(ReferenceDevice, "load", counted)
    tune.measure_folder(folder, Gpu(), tune.Clock(None), lambda _: None, [])
    assert len(runs) == 5 + 3 + 2  # each schedule, the own one beside the others, and a reference for each call


def test_what_is_done_when_time_is_up_is_written(folder: Path) -> None:
    now = iter([0.0, 1.0, 2.0, 30.0])
    said: list[str] = []
    tune.measure_folder(folder, Gpu(), tune.Clock(10, lambda: next(now)), said.append, [])
    assert len(tuning.parse_results((folder / tuning.RESULTS).read_text()).attempts) == 2
    assert said[-1] == "time is up: 3 of 5 were not measured"


def test_what_is_done_at_ctrl_c_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Gpu):
        def times(self, work: Mapping[str, Any], launches: int, passes: int) -> dict[str, list[float]]:
            if self.placed_times > 4:
                raise KeyboardInterrupt
            return super().times(work, launches, passes)

    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", Interrupted)
    assert tune.main([str(folder)]) == 130
    assert len(tuning.parse_results((folder / tuning.RESULTS).read_text()).attempts) == 2


def test_a_schedule_that_cannot_be_launched_is_dropped_and_takes_no_turns(folder: Path, gemm: TypedKernel) -> None:
    class Faulty(Gpu):
        def times(self, work: Mapping[str, Any], launches: int, passes: int) -> dict[str, list[float]]:
            raise ArtifactError("the launch failed")

    kept: list[tuning.Attempt] = []
    tune.measure_folder(folder, Faulty(), tune.Clock(None), lambda _: None, kept)
    assert {a.wrong for a in kept} == {"the launch failed"}
    assert [a.own for a in kept] == [None] * 5


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (tuning.WORK, "{", "is not what"),
        (tuning.WORK, "[]", "is not what"),
        (tuning.WORK, '{"schema": 2}', "has schema 2"),
        (tuning.WORK, '{"schema": 1, "kernel": "k", "calls": [{}]}', "is not what"),
        (tuning.WORK, None, "cannot be read"),
    ],
)
def test_a_folder_that_is_none(folder: Path, name: str, text: str | None, said: str) -> None:
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(ArtifactError, match=said):
        tune.measure_folder(folder, Gpu(), tune.Clock(None), lambda _: None, [])


def test_an_artifact_is_in_the_folder_and_nowhere_else(folder: Path) -> None:
    spoiled = json.loads((folder / tuning.WORK).read_text())
    spoiled["calls"][0]["ways"][0]["artifact"] = "../a0"
    with pytest.raises(ArtifactError, match="is not what"):
        tuning.parse_work(json.dumps(spoiled))


@pytest.mark.parametrize("spoil", [{"time": None}, {"wrong": "?"}, {"time": {"median": -1.0, "low": 0.0, "high": 0.0}}])
def test_an_attempt_has_a_time_or_says_what_is_wrong(spoil: dict[str, object]) -> None:
    fine = tuning.Attempt(SIZES[0], "a", Time(2e-6, 1e-6, 3e-6), None)
    assert tuning.parse_attempt(fine.json()) == fine
    with pytest.raises(ValueError, match="time"):
        tuning.parse_attempt({**fine.json(), **spoil})


def test_without_a_gpu(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> Any:
        raise RuntimeFault("there is no GPU", code="FP6302", help="find one")

    monkeypatch.setattr("fp4rt.cuda.timing.Gpu", none)
    assert tune.main([str(folder)]) == 3
    assert "error[FP6302]: there is no GPU" in capsys.readouterr().err
