"""The cuda device's packing, configurations and caches, with cuda-python's types but no driver."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cuda.bindings import driver as bindings

from fp4rt import ArgumentError, Artifact, DeviceError
from fp4rt.cuda import driver, tensormaps
from fp4rt.cuda.blocks import Template
from fp4rt.cuda.calls import CallPacker
from fp4rt.cuda.module import Entry, launch_config
from fp4rt.resolve import Resolved, resolve

from ..driver_double import ContextDouble, DriverDouble, Launched, install

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"
ADDRESSES = {"x": 0x1000, "y": 0x9000, "shift": 0x20004, "count": 0x30008, ".workspace": 0}
FUNCTION = 0x500
Launching = Callable[..., list[Launched]]


def bound(packer: CallPacker, plan: Resolved, addresses: dict[str, int], gain: float) -> Callable[[int], None]:
    """A call with parameters of its own, for a stream."""
    template, places, block = packer.block(plan, addresses, {"gain": gain})
    return lambda stream: template.queue(places, (), stream, block)


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> DriverDouble:
    return install(monkeypatch)


@pytest.fixture
def plan() -> Resolved:
    return resolve(Artifact.load(DATA).manifest, {"M": 130, "N": 100})


@pytest.fixture
def packer() -> CallPacker:
    manifest = Artifact.load(DATA).manifest
    context: Any = ContextDouble()
    return CallPacker(manifest, {manifest.plan.launches[0]: Entry(FUNCTION, 66)}, context)


@pytest.fixture
def launched(packer: CallPacker, plan: Resolved, double: DriverDouble) -> Launching:
    """Binds a call and runs it on streams; what was launched."""
    double.sizes[FUNCTION] = [128, 128, 8, 8, 4, 4, 4]

    def run(*streams: int, gain: float = 2.5, **addresses: int) -> list[Launched]:
        double.launched.clear()
        launches = bound(packer, plan, {**ADDRESSES, **addresses}, gain)
        for stream in streams or (0,):
            launches(stream)
        return list(double.launched)

    return run


def test_parameters_are_what_the_manifest_says(launched: Launching) -> None:
    for addresses in (ADDRESSES, {"x": 0x5000, "y": 0x7000, "shift": 0x20008, "count": 0x30004}):
        ((_, _, values),) = ((x.function, x.config, x.parameters) for x in launched(**addresses))
        assert [int.from_bytes(x[:8], "little") for x in values[:2]] == [addresses["x"], addresses["y"]]
        assert struct.unpack("<QQiif", b"".join(values[2:])) == (addresses["shift"], addresses["count"], 12, 4, 2.5)


def test_maps_and_lists_of_parameters_are_aligned(packer: CallPacker, plan: Resolved, double: DriverDouble) -> None:
    bound(packer, plan, ADDRESSES, 1.0)(0)
    ((place, *_),) = {tuple(x) for x in double.named("cuTensorMapEncodeTiled")[:1]}
    assert place % 64 == 0
    assert all(place % 64 == 0 for place, _ in double.named("cuTensorMapReplaceAddress"))
    assert all(pointers % 8 == 0 for _, _, pointers, _ in double.named("cuLaunchKernelEx"))


def test_calls_have_parameters_of_their_own(packer: CallPacker, plan: Resolved, double: DriverDouble) -> None:
    one = bound(packer, plan, ADDRESSES, 1.0)
    two = bound(packer, plan, ADDRESSES, 2.0)
    double.sizes[FUNCTION] = [128, 128, 8, 8, 4, 4, 4]
    for launches in (one, two, one):
        launches(0)
    assert [struct.unpack("<f", x.parameters[-1])[0] for x in double.launched] == [1.0, 2.0, 1.0]


def test_maps_are_made_and_changed_in_the_context_of_their_device(plan: Resolved, double: DriverDouble) -> None:
    """A thread that used CUDA for nothing yet, such as autograd's, has no current context."""
    manifest = Artifact.load(DATA).manifest
    inside: list[bool] = []

    class Context(ContextDouble):
        depth = 0

        @contextmanager
        def current(self) -> Iterator[None]:
            self.depth += 1
            yield
            self.depth -= 1

    class Calls(list[Any]):
        def append(self, call: Any) -> None:
            super().append(call)
            if call[0].startswith("cuTensorMap"):
                inside.append(context.depth > 0)

    context: Any = Context()
    double.calls = Calls()
    packer = CallPacker(manifest, {manifest.plan.launches[0]: Entry(FUNCTION, 66)}, context)
    for x in (0x1000, 0x5000):
        bound(packer, plan, {**ADDRESSES, "x": x}, 1.0)
    assert len(inside) > 2 and all(inside)


def test_a_misaligned_address_is_named(launched: Launching) -> None:
    with pytest.raises(ArgumentError, match="FP6106: 'shift' lies at 0x20002: the kernel needs a multiple of 4"):
        launched(shift=0x20002)
    with pytest.raises(ArgumentError, match="FP6106: 'x' lies at 0x1008: its tensor map needs an address that is a mu"):
        launched(x=0x1008)


def test_persistent_grids_and_clusters(launched: Launching, packer: CallPacker, plan: Resolved) -> None:
    assert [x.config for x in launched(77, 78, 77)] == [
        (24, 1, 1, 128, 1, 1, 12296, stream)
        for stream in (77, 78, 77)  # 12 tiles, fewer than 66 clusters
    ]
    config = Template.config(plan.launches[0], Entry(FUNCTION, 66), 77)
    cluster = config.attrs[0].value.clusterDim
    assert (config.numAttrs, cluster.x, cluster.y, cluster.z) == (1, 2, 1, 1)
    assert plan.launches[0].grid_for(5) == (10, 1, 1)
    assert plan.launches[0].grid_for(0) == (2, 1, 1)


def test_no_cluster_attribute_for_single_blocks() -> None:
    assert launch_config((32, 1, 1), (1, 1, 1), 0, (3, 2, 1), 0).numAttrs == 0


def test_configurations_of_many_streams_are_dropped(launched: Launching) -> None:
    streams = [*range(1, 200), 1, 2]
    assert [x.config[-1] for x in launched(*streams)] == streams


def test_maps_are_encoded_once_for_their_sizes(launched: Launching, double: DriverDouble) -> None:
    for address in (0x1000, 0x1000, 0x2000):
        launched(x=address)
    F32, B128, NONE = 7, 3, 0
    assert double.encoded == [
        (F32, 0x1000, (100, 130), (400,), (32, 64), (1, 1), 0, B128, 2, 0),
        (F32, 0x9000, (100, 130), (400,), (32, 32), (1, 1), 0, NONE, 2, 0),
    ]


def test_a_map_that_other_sizes_leave_as_it_is_is_not_encoded_again(packer: CallPacker, double: DriverDouble) -> None:
    """Nor a configuration made again; each call's map has its own address all the same."""
    manifest = Artifact.load(DATA).manifest
    double.sizes[FUNCTION] = [128, 128, 8, 8, 4, 4, 4]
    for n, place in ((100, 0x1000), (104, 0x2000), (100, 0x3000)):
        for order in (list(ADDRESSES), list(reversed(ADDRESSES))):
            addresses = {name: {**ADDRESSES, "x": place}[name] for name in order}
            double.launched.clear()
            bound(packer, resolve(manifest, {"M": 130, "N": n}), addresses, 1.0)(0)
            assert int.from_bytes(double.launched[0].parameters[0][:8], "little") == place
    assert [m[2][0] for m in double.encoded] == [100, 100, 104, 104]
    configs = {place for place, *_ in double.named("cuLaunchKernelEx")}
    assert len(configs) == 1


@pytest.mark.parametrize("cluster", [(1, 1, 1), (2, 1, 1)])
def test_a_dependent_launch_is_one_by_its_attribute(cluster: tuple[int, int, int]) -> None:
    """Beside that of the cluster; other launches have none."""
    ids = bindings.CUlaunchAttributeID
    wanted = [ids.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION] if cluster != (1, 1, 1) else []
    plain = launch_config((128, 1, 1), cluster, 64, cluster, 5)
    assert [a.id for a in plain.attrs] == wanted
    config = launch_config((128, 1, 1), cluster, 64, cluster, 5, True)
    assert config.numAttrs == len(wanted) + 1
    assert [a.id for a in config.attrs] == [*wanted, ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION]
    assert config.attrs[-1].value.programmaticStreamSerializationAllowed == 1


def test_a_call_launches_what_its_manifest_says_to_depend(packer: CallPacker, plan: Resolved) -> None:
    dependent = replace(plan, launches=tuple(replace(launch, dependent=True) for launch in plan.launches))
    configs = [Template.config(each.launches[0], Entry(FUNCTION, 66), 5) for each in (plan, dependent)]
    assert [config.numAttrs for config in configs] == [1, 2]  # it has a cluster


def test_map_numbers_are_those_of_cuda() -> None:
    for ours, theirs, names in (
        (
            tensormaps.TYPES,
            bindings.CUtensorMapDataType,
            {"U8": "UINT8", "BF16": "BFLOAT16", "B6X16_P32": "16U6_ALIGN16B"},
        ),
        (tensormaps.SWIZZLES, bindings.CUtensorMapSwizzle, {"128B": "128B"}),
        (tensormaps.PROMOTIONS, bindings.CUtensorMapL2promotion, {"256B": "L2_256B"}),
        (tensormaps.FILLS, bindings.CUtensorMapFloatOOBfill, {"nan": "NAN_REQUEST_ZERO_FMA"}),
    ):
        values = [int(x) for x in theirs]
        assert sorted(ours.values()) == values[: len(ours)]
        for name, suffix in names.items():
            assert next(int(x) for x in theirs if x.name.endswith("_" + suffix)) == ours[name]
    words = {"U": "UINT", "I": "INT", "F": "FLOAT", "TF": "TFLOAT", "BF": "BFLOAT"}
    for name, number in tensormaps.TYPES.items():
        if name[0] != "B" or name == "BF16":
            letters = name.split("_")[0].rstrip("0123456789")
            cuda_name = name.replace(letters, words[letters], 1)
            assert int(getattr(bindings.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{cuda_name}")) == number


def test_a_map_that_is_not_active_is_zero_bytes(packer: CallPacker, double: DriverDouble) -> None:
    empty = resolve(Artifact.load(DATA).manifest, {"M": 0, "N": 100})
    assert not empty.tensor_maps[0].active
    assert empty.launches[0].empty
    bound(packer, empty, ADDRESSES, 1.0)(0)
    assert not double.encoded and not double.launched


def test_fills_come_before_launches(launched: Launching, double: DriverDouble) -> None:
    double.calls.clear()
    launched(5, 6)
    queued = [(name, *rest) for name, *rest in double.calls if name.startswith(("cuMemset", "cuLaunch"))]
    assert [x[:5] if x[0] == "cuMemsetD32Async" else (x[0], x[2]) for x in queued] == [
        ("cuMemsetD32Async", 0x30008, 0, 1, 5),
        ("cuLaunchKernelEx", FUNCTION),
        ("cuMemsetD32Async", 0x30008, 0, 1, 6),
        ("cuLaunchKernelEx", FUNCTION),
    ]


@pytest.mark.parametrize(
    "function", ["cuLaunchKernelEx", "cuMemsetD32Async", "cuTensorMapReplaceAddress", "cuTensorMapEncodeTiled"]
)
def test_a_failed_call_of_the_driver_is_named(function: str, launched: Launching, double: DriverDouble) -> None:
    double.answers[function] = bindings.CUresult.CUDA_ERROR_LAUNCH_FAILED
    named = function.replace("D32", "")
    with pytest.raises(DeviceError, match=rf"FP6304: {named}.*: CUDA_ERROR_LAUNCH_FAILED \(as asked for\)"):
        launched()
    double.answers[function] = 98765
    if not function.startswith("cuTensorMap"):  # the rest goes through cuda-python, which has no number without a name
        return
    with pytest.raises(DeviceError, match=rf"FP6304: {named}.*: CUDA error 98765"):
        launched()


def test_a_driver_without_a_function_is_too_old(monkeypatch: pytest.MonkeyPatch, double: DriverDouble) -> None:
    monkeypatch.setattr(double, "cuGetProcAddress", lambda *_: (bindings.CUresult.CUDA_SUCCESS, 0, 1))
    with pytest.raises(DeviceError, match="the NVIDIA driver has no cu.*: it is older than CUDA 12.0"):
        driver.native()
