"""Lists of problems on torch tensors, with a driver that takes note."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fp4rt import ArgumentError, DeviceError

from ...driver_double import Gpu, install
from ..test_emulator import vectors
from ..test_many import Memory, over_saxpy, tables

KINDS = ["pointer"] * 4 + ["i32", "f32"]


def problem(n: int) -> dict[str, Any]:
    return {name: torch.from_numpy(value) for name, value in vectors(n).items()} | {"gain": n / 2}


def test_a_bound_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables point to the tensors themselves; a graph captures launches and fills, and no copy."""
    double = install(monkeypatch)
    memory = Memory(double)
    kernel = over_saxpy().load_kernel(Gpu())
    problems = [problem(n) for n in (300, 0, 100_000)]
    bound: Any = kernel.bind_many(problems, stream=7)
    assert not double.launched
    memory.capturing = 1
    bound(stream=9)
    bound()
    assert memory.copies == 1
    assert [launched.config[-1] for launched in double.launched] == [9, 7]
    for launched in double.launched:
        records, words = tables(launched, KINDS)
        assert launched.config[0] == len(words)
        assert [record[:3] + record[4:] for record in records] == [
            (*(x.data_ptr() for x in (p["a"], p["b"], out["y"])), len(p["a"]), p["gain"])
            for p, out in zip(problems, bound.outputs, strict=True)
            if len(p["a"])
        ]
    with pytest.raises(DeviceError, match="FP6324(.|\\n)*bind_many"):
        kernel.many(problems, stream=7)


def test_arrays_of_two_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    kernel = over_saxpy().load_kernel(Gpu())
    with pytest.raises(ArgumentError, match="FP6323: problem 1 has torch arrays, problem 0 numpy"):
        kernel.many([vectors(3) | {"gain": 1.0}, problem(3)])
