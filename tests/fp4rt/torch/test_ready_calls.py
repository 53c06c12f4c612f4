"""Calls of a kind that is ready: what they look at without a key, and parameters that are used again.

The random calls of test_repeated_calls.py go this way too; here is what they do not reach.
"""

from __future__ import annotations

import functools
import random
import struct
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fp4rt
from fp4rt.cuda import blocks, driver, ready
from fp4rt.cuda.repeated import Repeated

from ...driver_double import DriverDouble, Gpu, install
from .test_operators import bf16
from .test_repeated_calls import KERNELS, good, outcome, outputs_for, pair, planned, scaler

pytestmark = pytest.mark.torch


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> DriverDouble:
    found = install(monkeypatch)
    monkeypatch.setattr(driver, "raw_stream", lambda device: 7)
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_kinds_in_turns_need_no_key(name: str, double: DriverDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of three sizes, with outputs and without, in random order, each on buffers of its own."""
    quick, checked, _ = pair(name)
    calls: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for m in (16, 32, 48):
        for _ in range(3):
            args = good(name, m, 32)
            calls += [(args, {"out": outputs_for(checked, args)}), (args, {})]
    for args, options in calls * 2:
        quick(**args, **options)
    monkeypatch.setattr(Repeated, "_look", lambda *_: pytest.fail("it was looked at"))
    rng = random.Random(name)
    for args, options in rng.choices(calls, k=40):
        assert outcome(quick, double, args, options) == outcome(checked, double, args, options)


def exact(kernel: fp4rt.Kernel, double: DriverDouble, args: dict[str, Any], options: dict[str, Any]) -> Any:
    """The bytes of all parameters of a call's launches."""
    double.launched.clear()
    kernel(**args, **options)
    return [(x.function, x.config, x.parameters) for x in double.launched]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("most", [2, 1024])
def test_buffers_that_come_again_get_the_same_bytes(
    name: str, most: int, double: DriverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a block was kept, was dropped for others, or is filled anew."""
    monkeypatch.setattr(ready, "_MAX_BLOCKS", most)
    monkeypatch.setattr(ready, "_MAX_SEEN", 4 * most)
    quick, checked, _ = pair(name)
    calls = []
    for _ in range(5):
        args = good(name, 32, 64)
        gains = [{}, {"gain": 0.0}, {"gain": -0.0}, {"gain": 1.5}] if name.startswith("scaler") else [{}]
        workspace = {"workspace": torch.zeros(4096, dtype=torch.uint8)} if "workspace" in name else {}
        out = outputs_for(checked, args)
        calls += [({**args, **gain}, {"out": out, **workspace}) for gain in gains]
    rng = random.Random(most)
    for args, options in calls * 3 + rng.choices(calls, k=60):
        assert exact(quick, double, args, options) == exact(checked, double, args, options)


def test_a_zero_keeps_its_sign(double: DriverDouble) -> None:
    quick, checked, _ = pair("scaler")
    args = good("scaler", 16, 32)
    options = {"out": outputs_for(checked, args)}
    for gain in (0.0, -0.0, 0, 0.0, -0.0) * 4:
        ((_, _, parameters),) = exact(quick, double, {**args, "gain": gain}, options)
        assert parameters[-1] == struct.pack("<f", gain)


def test_what_torch_alone_cares_for_makes_no_other_kind(double: DriverDouble) -> None:
    """Inference mode, gradients and parameters: the call goes through, and the next one of its sort needs no key."""
    quick, checked, _ = pair("scaler")
    with torch.inference_mode():
        inside = good("scaler", 16, 32)
    grown = {**good("scaler", 16, 32), "x": torch.zeros(16, 32, requires_grad=True)}
    sorts = [good("scaler", 16, 32), inside, grown, {**grown, "x": torch.nn.Parameter(torch.zeros(16, 32))}]
    for _ in range(2):
        quick(**sorts[0])
    assert quick.quick is not None
    for args in sorts * 2:
        with torch.no_grad():
            assert outcome(quick, double, args, {}) == outcome(checked, double, args, {})
            assert quick.quick._last.run(args, None, None, None) is not None  # type: ignore[attr-defined]


def test_a_torch_without_guards_has_its_keys(double: DriverDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C._dynamo.guards, "TensorGuards")
    quick, checked, _ = pair("quantizer")
    calls = [{"x": bf16(32, 64), "s": torch.ones(())} for _ in range(3)]
    for args in calls * 2:
        assert outcome(quick, double, args, {}) == outcome(checked, double, args, {})
    monkeypatch.setattr(type(quick.signature), "inputs", lambda *_: pytest.fail("it was checked"))
    for args in calls:
        quick(**args)


@pytest.mark.parametrize("kind", ["moves", "turns", "refuses"])
def test_maps_whose_format_is_another_are_left_to_the_driver(
    kind: str, double: DriverDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is spread over two words, or that is not there as it is: no call writes it by itself."""

    def replace(place: int, address: int) -> int:
        if kind == "refuses" and address in probes:
            return 1
        low = address if kind != "turns" else ~address & (1 << 64) - 1
        driver.ctypes.memmove(place, struct.pack("<QQ", low, address >> 40 if kind == "moves" else 0), 16)
        return 0

    probes = {probe & -align for probe in blocks._PROBES for align in (16, 32)}
    native = driver.native()
    monkeypatch.setattr(driver, "_native", (double, type(native)(native.encode, replace, native.current_context)))
    monkeypatch.setattr(ready, "_MAX_SEEN", 0)
    quick, _, _ = pair("scaler")
    for _ in range(4):
        args = good("scaler", 16, 32)
        quick(**args)
    templates = quick.executable.packer._templates.values()  # type: ignore[attr-defined]
    assert all(template._words is None for template in templates)
    double.launched.clear()
    quick(**args)
    place = driver.ctypes.create_string_buffer(16)
    replace(driver.ctypes.addressof(place), args["x"].data_ptr())
    assert double.launched[0].parameters[0][:16] == place.raw


def test_maps_of_the_format_that_is_known_are_written(double: DriverDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once that was tried with every bit of an address, the driver is not asked again."""
    assert functools.reduce(int.__or__, blocks._PROBES) == (1 << 47) - 1
    assert functools.reduce(int.__and__, blocks._PROBES) == 0
    monkeypatch.setattr(ready, "_MAX_SEEN", 0)
    quick, _, _ = pair("scaler")
    for _ in range(4):
        quick(**good("scaler", 16, 32))
    double.calls.clear()
    args = good("scaler", 16, 32)
    y = quick(**args)["y"]
    assert not double.named("cuTensorMapReplaceAddress")
    maps = [p for p in double.launched[-1].parameters if len(p) == 128]
    assert [int.from_bytes(p[:8], "little") for p in maps] == [args["x"].data_ptr(), y.data_ptr()]


@pytest.mark.parametrize("capturing", [0, 1])
def test_only_a_bound_call_waits_for_counters_that_need_one_fill(capturing: int, double: DriverDouble) -> None:
    """On the stream that its workspace is of, which the fill is in order with. Others fill them each time."""
    waits: list[int] = []
    double.cuStreamIsCapturing = lambda stream: (0, capturing)  # type: ignore[attr-defined]
    double.cuStreamSynchronize = lambda stream: (waits.append(stream) or 0,)  # type: ignore[attr-defined]
    kernel = fp4rt.Kernel(planned(scaler(), workspace=("mul", "M", 16), counters=4), Gpu())
    kernel.signature.check_data = lambda *_: None  # type: ignore[method-assign]
    for m in (16, 16, 16, 32, 48):
        double.calls.clear()
        kernel(**good("scaler", m, 32))
        assert len(double.named("cuMemsetD32Async")) == 1 and not waits
    for stream, used in ((None, 7), (9, 9)):
        bound = kernel.bind(**good("scaler", 16, 32), stream=stream)
        assert waits == ([] if capturing else [used])
        filled = double.named("cuMemsetD32Async")[1:]
        assert [x[-1] for x in filled] == ([] if capturing else [used])
        double.calls.clear()
        for _ in range(2):
            bound()
        assert len(double.named("cuMemsetD32Async")) == 2 * capturing
        waits.clear()
        double.calls[:] = [("cuMemsetD32Async",)]


def test_a_negated_tensor_is_left_to_the_checks(double: DriverDouble) -> None:
    """Its memory holds other numbers, and nothing else tells it from the tensors that came before."""
    quick, _, _ = pair("scaler")
    args = good("scaler", 16, 32)
    for _ in range(4):
        quick(**args)
    double.launched.clear()
    for _ in range(3):
        with pytest.raises(fp4rt.ArgumentError, match="FP6103: 'x' is negated when it is read"):
            quick(**{**args, "x": torch._neg_view(args["x"])})
    assert not double.launched


def test_a_mode_sees_what_is_allocated(double: DriverDouble) -> None:
    """And where there is none, torch is asked past its dispatcher, for row-major tensors."""
    seen: list[Any] = []

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            return function(*args, **(kwargs or {}))

    quick, _, _ = pair("scaler_with_workspace")
    args = good("scaler_with_workspace", 16, 32)
    outputs = [quick(**args) for _ in range(4)][-1]
    (plan,) = quick.quick._plans.values()
    assert plan.quickly is not None and len(plan.quickly.sizes) == 3
    with Mode():
        within = quick(**args)
    assert seen == [torch.ops.aten.empty_like.default] * 3
    elsewhere = replace(plan.quickly, device=1)
    plan.quickly = elsewhere  # another current device than the kernel's
    for found in (outputs, within, quick(**args)):
        assert [(x.shape, x.dtype, x.is_contiguous()) for x in found.values()] == [
            (torch.Size([16, 32]), torch.float32, True), (torch.Size([16]), torch.bfloat16, True)
        ]  # fmt: skip


def test_threads_share_what_is_kept(double: DriverDouble) -> None:
    """Eight threads on the same buffers with two gains: every launch has one of the two sets of bytes."""
    quick, checked, _ = pair("scaler")
    args = good("scaler", 16, 32)
    options = {"out": outputs_for(checked, args)}
    wanted = [exact(checked, double, {**args, "gain": gain}, options)[0][2] for gain in (1.0, 2.0)]
    double.launched.clear()

    def work(gain: float) -> None:
        for _ in range(40):
            quick(**args, **options, gain=gain)

    threads = [threading.Thread(target=work, args=(1.0 + i % 2,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [x.parameters for x in double.launched]
    assert len(found) == 320 and all(found.count(x) == 160 for x in wanted)


def test_a_fork_is_named_whatever_is_known_of_a_call(double: DriverDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that need new parameters, that fill used ones, and whose parameters are kept."""
    quick, checked, _ = pair("scaler")
    for times in range(6):
        args = good("scaler", 16, 32)
        options = {"out": outputs_for(checked, args)}
        for _ in range(times):
            quick(**args, **options)
        double.calls.clear()
        with monkeypatch.context() as forked:
            forked.setattr(driver, "forked", True)
            with pytest.raises(fp4rt.ForkError):
                quick(**args, **options)
        assert not double.calls
