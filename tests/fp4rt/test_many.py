"""Lists of problems: their checks, their tables, and how they share a GPU. Nothing is compiled."""

from __future__ import annotations

import ctypes
import pickle
import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4rt import ArgumentError, Artifact, ConstraintError, DeviceError, Kernel
from fp4rt.listing import shares
from fp4rt.manifest import Manifest, dumps, loads
from fp4rt.plan import RECORD_ALIGN, ListForm, record_layout

from ..driver_double import DriverDouble, Gpu, Launched, install
from ..e2e.conftest import on_reference
from .test_emulator import SAXPY, artifact_of, saxpy_kernel, saxpy_plan, vectors

SPEC = """kernel k(M, N) where N % 4 == 0 {
    param alpha : f32 = 2.0
    in x : f32[M, N]; in r : f32[N]; inout z : f32[M, N]; out y : f32[M, N]
    y = x * alpha + r
    z = z + x
}
"""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return on_reference(SPEC).load_kernel("reference")


def problem(m: int, n: int = 8) -> dict[str, Any]:
    x = np.arange(m * n, dtype=np.float32).reshape(m, n)
    return {"x": x, "r": np.ones(n, np.float32), "z": np.zeros((m, n), np.float32)}


def test_a_list_is_a_loop(kernel: Kernel) -> None:
    given = [problem(3), problem(0), problem(5, 4) | {"alpha": -1.0}]
    found: list[Any] = kernel.many(given)
    assert [sorted(each) for each in found] == [["y", "z"]] * 3
    assert [each["y"].shape for each in found] == [(3, 8), (0, 8), (5, 4)]
    assert np.array_equal(found[2]["y"], 1 - given[2]["x"])
    assert found[0]["z"] is given[0]["z"]
    assert np.array_equal(given[0]["z"], given[0]["x"])
    assert kernel.many([]) == []


def test_tuples_outputs_and_runs_again(kernel: Kernel) -> None:
    one, two = problem(2), problem(3)
    y = np.empty((2, 8), np.float32)
    bound = kernel.bind_many([(3.0, *one.values()), {**two, "out": {}}], out=[{"y": y}, None])
    assert bound.outputs[0]["y"] is y
    assert bound() is bound.outputs
    bound()
    assert np.array_equal(y, one["x"] * 3 + 1)
    assert np.array_equal(two["z"], 2 * two["x"])
    assert "list of 2 calls of k on reference" in repr(bound)
    with pytest.raises(DeviceError, match="FP6122"):
        pickle.dumps(bound)


@pytest.mark.parametrize(
    ("problems", "out", "words"),
    [
        (7, None, "the problems are a list, not int"),
        ([1], None, "problem 0 is int"),
        ([problem(1)], [], "out is a list of 1 dicts"),
        ([problem(1)], {"y": 1}, "out is a list of 1 dicts"),
        ([(1, 2, 3, 4, 5)], None, "problem 0 has 5 values for alpha, x, r, z"),
        ([{**problem(1), "out": {}}], [{}], "problem 0 has outputs in its dict and in out"),
    ],
)
def test_what_is_no_list(kernel: Kernel, problems: Any, out: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match="FP6321") as caught:
        kernel.many(problems, out=out)
    assert words in str(caught.value)


def test_errors_name_the_problem(kernel: Kernel) -> None:
    wrong = {**problem(2), "x": np.zeros((2, 9), np.float32)}
    with pytest.raises(ArgumentError, match="FP6105: problem 1: ") as caught:
        kernel.many([problem(2), wrong])
    assert caught.value.argument
    assert caught.value.message.startswith("problem 1: ")
    with pytest.raises(ConstraintError, match=r"FP6201: problem 2: constraint 'N % 4 == 0'"):
        kernel.many([problem(1), problem(1), problem(1, 6)])
    with pytest.raises(ArgumentError, match="FP6102: problem 0: k needs"):
        kernel.many([(1.0, np.zeros((1, 4), np.float32))])


def test_problems_may_share_what_they_read_alone(kernel: Kernel) -> None:
    shared = problem(4)
    assert len(kernel.many([shared, {**shared, "z": np.zeros((4, 8), np.float32)}])) == 2
    held = np.zeros((6, 8), np.float32)
    with pytest.raises(ArgumentError, match="FP6322: problem 1: 'z' shares memory with 'z' of problem 0"):
        kernel.many([{**problem(4), "z": held[:4]}, {**problem(4), "z": held[2:]}])
    with pytest.raises(ArgumentError, match="FP6322"):
        kernel.many([{**problem(4), "z": held[:4]}, {**problem(4), "x": held[2:]}])
    kernel.many([{**problem(3), "z": held[:3]}, {**problem(3), "z": held[3:]}])


def test_kernels_for_calls_alone() -> None:
    """A device does not run a loop where one launch was asked for."""
    kernel = artifact_of(saxpy_kernel(), saxpy_plan(), SAXPY).load_kernel("emulator")
    with pytest.raises(DeviceError, match="FP6320: saxpy was not compiled for lists(.|\n)*many=True"):
        kernel.many([vectors(10) | {"gain": 1.0}])


class Memory:
    """What a driver's double needs beside: memory that is the host's."""

    def __init__(self, double: DriverDouble) -> None:
        self.held: dict[int, np.ndarray] = {}
        self.freed = 0
        self.capturing = 0
        self.copies = 0
        ok = double.CUresult.CUDA_SUCCESS
        for name, answer in {
            "cuMemAllocAsync": lambda n, stream: (ok, self.allocate(n)),
            "cuMemFreeAsync": lambda place, stream: (self.free() or ok,),
            "cuMemcpyHtoDAsync": lambda to, source, n, stream: (self.copy(to, source, n) or ok,),
            "cuMemcpyDtoHAsync": lambda to, source, n, stream: (self.copy(to, source, n) or ok,),
            "cuStreamSynchronize": lambda stream: (ok,),
            "cuStreamIsCapturing": lambda stream: (ok, self.capturing),
        }.items():
            setattr(double, name, answer)

    def allocate(self, nbytes: int) -> int:
        array = np.zeros(nbytes + 128, np.uint8)
        place = array.ctypes.data + -array.ctypes.data % 128
        self.held[place] = array
        return place

    def free(self) -> None:
        self.freed += 1

    def copy(self, to: int, source: int, nbytes: int) -> None:
        self.copies += 1
        ctypes.memmove(to, source, nbytes)


def over_saxpy() -> Artifact:
    plan = saxpy_plan()
    launch = replace(plan.launches[0], many=ListForm("saxpy_many", "N"))
    manifest = Manifest("saxpy", "sm_100a", saxpy_kernel(), replace(plan, launches=(launch,)))
    return Artifact.build(loads(dumps(manifest)), {"saxpy.ptx": b"", "saxpy_many.ptx": b""})


def tables(launched: Launched, kinds: list[str]) -> tuple[list[tuple[Any, ...]], np.ndarray]:
    """What a launch over a list reads: each problem's four pointers, number and gain; and the words of each CTA."""
    records, places = (int.from_bytes(x, "little") for x in launched.parameters)
    words = np.frombuffer(ctypes.string_at(places, 16 * launched.config[0]), "<u4").reshape(-1, 4)
    offsets, size = record_layout(kinds)
    found: list[tuple[Any, ...]] = []
    for number in range(int(words[:, 0].max()) + 1):
        record = ctypes.string_at(records + number * size, size)
        found.append(tuple(struct.unpack_from({"pointer": "<Q", "i32": "<i", "f32": "<f"}[kind], record, at)[0]
                           for kind, at in zip(kinds, offsets, strict=True)))  # fmt: skip
    return found, words


def test_what_a_gpu_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    double = install(monkeypatch)
    memory = Memory(double)
    kernel = over_saxpy().load_kernel(Gpu())
    problems = [vectors(n) | {"gain": n / 2} for n in (300, 0, 100_000)]
    bound = kernel.bind_many(problems, stream=7)
    assert bound.launches == 1
    bound()
    (launched,) = double.launched
    kinds = ["pointer"] * 4 + ["i32", "f32"]
    records, words = tables(launched, kinds)
    assert [record[-2:] for record in records] == [(300, 150.0), (100_000, 50_000.0)]
    assert launched.config[:6] == (len(words), 1, 1, 64, 1, 1)
    assert len(words) <= 66
    assert launched.config[-1] == 7
    counts = {number: int(words[words[:, 0] == number][0, 2]) for number in (0, 1)}
    assert counts[0] + counts[1] == len(words)
    assert counts[0] < counts[1]
    for number, count in counts.items():
        assert words[words[:, 0] == number][:, 1].tolist() == list(range(count))
    assert memory.freed == len(memory.held)
    for record in records:
        assert all(place in memory.held for place in record[:4])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(1, 300)), min_size=1, max_size=12), st.integers(1, 200))
def test_shares(problems: list[tuple[int, int]], clusters: int) -> None:
    tiles, work = [t for t, _ in problems], [w for _, w in problems]
    found = shares(tiles, work, clusters)
    assert all(1 <= count <= most for count, most in zip(found, tiles, strict=True))
    if sum(tiles) <= clusters:
        assert found == tiles
        return
    total = sum(t * w for t, w in problems)
    time = max(-(-t // count) * w for (t, w), count in zip(problems, found, strict=True))
    if len(problems) <= clusters:
        assert sum(found) <= clusters
        # None of the tiles is longer than the longest, and a problem's clusters end within a tile of one another.
        shorter = [max(1, (time - 1) // w) for w in work]
        needed = sum(-(-t // each) for t, each in zip(tiles, shorter, strict=True))
        assert needed > clusters or any(w >= time for w in work)
    assert time >= total / max(clusters, sum(found))


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["tensor_map", "pointer", "i32", "i64", "f32"])))
def test_records(kinds: list[str]) -> None:
    """Tensor maps lie as a fence of their proxy takes them, and nothing lies over another."""
    places, size = record_layout(kinds)
    taken = sorted(
        (at, at + (128 if kind == "tensor_map" else 8), kind) for at, kind in zip(places, kinds, strict=True)
    )
    assert all(at % (128 if kind == "tensor_map" else 8) == 0 for at, _, kind in taken)
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(taken))
    assert size % RECORD_ALIGN == 0
    assert max((end for _, end, _ in taken), default=0) <= size
