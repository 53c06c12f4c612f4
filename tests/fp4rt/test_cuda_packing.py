"""The cuda device's packing, configurations and caches, with cuda-python's types but no driver."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cuda.bindings import driver as bindings

from fp4rt import ArgumentError, Artifact, DeviceError
from fp4rt.cuda import driver, tensormaps
from fp4rt.cuda.calls import CallPacker, Launches
from fp4rt.cuda.module import Entry, launch_config
from fp4rt.cuda.tensormaps import MapCache
from fp4rt.resolve import Resolved, resolve

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"
ADDRESSES = {"x": 0x1000, "y": 0x9000, "shift": 0x20004, "count": 0x30008, ".workspace": 0}


class FakeContext:
    ordinal = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        yield


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_driver", bindings)
    monkeypatch.setattr(tensormaps, "encode", lambda m, address: struct.pack("<Q", address) * 16)


@pytest.fixture
def plan() -> Resolved:
    return resolve(Artifact.load(DATA).manifest, {"M": 130, "N": 100})


@pytest.fixture
def packer() -> CallPacker:
    manifest = Artifact.load(DATA).manifest
    context: Any = FakeContext()
    return CallPacker(manifest, {manifest.plan.launches[0]: Entry("function", 66)}, context)


def test_parameters_lie_where_the_manifest_says(packer: CallPacker, plan: Resolved) -> None:
    (packed,) = packer.pack(plan, ADDRESSES, {"gain": 2.5})
    pointers = struct.unpack("<7Q", ctypes.string_at(packed.pointers, 56))
    sizes = [128, 128, 8, 8, 4, 4, 4]
    values = [ctypes.string_at(p, n) for p, n in zip(pointers, sizes, strict=True)]
    assert values[0] == struct.pack("<Q", 0x1000) * 16
    assert values[1] == struct.pack("<Q", 0x9000) * 16
    assert struct.unpack("<QQiif", b"".join(values[2:])) == (0x20004, 0x30008, 3 * 4, 4, 2.5)
    assert [p - pointers[0] for p in pointers] == [0, 128, 256, 264, 272, 276, 280]


def test_calls_have_parameters_of_their_own(packer: CallPacker, plan: Resolved) -> None:
    (one,) = packer.pack(plan, ADDRESSES, {"gain": 1.0})
    (two,) = packer.pack(plan, ADDRESSES, {"gain": 2.0})
    assert one.template is two.template
    assert one.pointers != two.pointers


def test_a_misaligned_pointer_is_named(packer: CallPacker, plan: Resolved) -> None:
    with pytest.raises(ArgumentError, match="FP6106: 'shift' lies at 0x20002: the kernel needs a multiple of 4"):
        packer.pack(plan, {**ADDRESSES, "shift": 0x20002}, {"gain": 1.0})


def test_persistent_grids_and_clusters(packer: CallPacker, plan: Resolved) -> None:
    (packed,) = packer.pack(plan, ADDRESSES, {"gain": 1.0})
    config = packer.config(plan, packed.template, 77)
    assert (config.gridDimX, config.gridDimY, config.gridDimZ) == (24, 1, 1)  # 12 tiles, fewer than 66 clusters
    assert (config.blockDimX, config.sharedMemBytes, int(config.hStream)) == (128, 12296, 77)
    cluster = config.attrs[0].value.clusterDim
    assert (config.numAttrs, cluster.x, cluster.y, cluster.z) == (1, 2, 1, 1)
    assert packer.config(plan, packed.template, 77) is config
    assert packer.config(plan, packed.template, 78) is not config
    assert packed.template.launch.grid_for(5) == (10, 1, 1)
    assert packed.template.launch.grid_for(0) == (2, 1, 1)


def test_no_cluster_attribute_for_single_blocks() -> None:
    assert launch_config((32, 1, 1), (1, 1, 1), 0, (3, 2, 1), 0).numAttrs == 0


def test_maps_are_encoded_once_for_an_address(plan: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(tensormaps, "encode", lambda m, address: calls.append(address) or bytes(128))
    context: Any = FakeContext()
    cache = MapCache(context)
    for address in (0x1000, 0x1000, 0x2000):
        cache.get(plan, plan.tensor_maps[0], address)
    assert calls == [0x1000, 0x2000]


def test_a_map_that_is_not_active_is_zero_bytes() -> None:
    empty = resolve(Artifact.load(DATA).manifest, {"M": 0, "N": 100})
    context: Any = FakeContext()
    assert not empty.tensor_maps[0].active
    assert MapCache(context).get(empty, empty.tensor_maps[0], 0) == bytes(128)
    assert empty.launches[0].empty


class Recorder:
    """Stands for the driver: records calls, and fails launches with `answer`."""

    CUresult = bindings.CUresult
    CUstream = bindings.CUstream
    cuGetErrorName = staticmethod(lambda result: (0, b"CUDA_ERROR_LAUNCH_FAILED"))
    cuGetErrorString = staticmethod(lambda result: (0, b"unspecified launch failure"))

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cuMemset"):
            return lambda *args: (self.calls.append((name, *args)), (bindings.CUresult.CUDA_SUCCESS,))[1]
        return getattr(bindings, name)

    def cuLaunchKernelEx(self, config: Any, function: Any, pointers: int, extra: int) -> tuple[Any]:
        self.calls.append(("launch", function, int(config.hStream)))
        return (self.answer,)


def test_fills_come_before_launches(packer: CallPacker, plan: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(bindings.CUresult.CUDA_SUCCESS)
    monkeypatch.setattr(driver, "_driver", recorder)
    launches = Launches(packer, plan, ADDRESSES, {"gain": 1.0})
    launches.run(5)
    launches.run(6)
    assert recorder.calls == [
        ("cuMemsetD32Async", 0x30008, 0, 1, 5),
        ("launch", "function", 5),
        ("cuMemsetD32Async", 0x30008, 0, 1, 6),
        ("launch", "function", 6),
    ]


def test_a_failed_launch_is_named(packer: CallPacker, plan: Resolved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_driver", Recorder(bindings.CUresult.CUDA_ERROR_LAUNCH_FAILED))
    with pytest.raises(DeviceError, match=r"FP6304: cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED \(unspecified"):
        Launches(packer, plan, ADDRESSES, {"gain": 1.0}).run(0)
