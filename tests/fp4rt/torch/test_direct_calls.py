"""Operators called by name: past torch's dispatcher where it would change nothing, and through it everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fp4rt
from fp4rt.cuda import driver

from ...driver_double import DriverDouble, install
from .test_operators import unused
from .test_repeated_calls import KERNELS, described, good, outcome, pair

pytestmark = pytest.mark.torch


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> DriverDouble:
    found = install(monkeypatch)
    monkeypatch.setattr(driver, "raw_stream", lambda device: 7)
    return found


class Seen:
    """An operator that is called directly, and how often the dispatcher got it nevertheless."""

    def __init__(self, name: str) -> None:
        self.kernel, self.checked, _ = pair(name)
        self.operator = self.kernel.as_torch_op(unused())
        self.calls = 0
        self._whole = self.operator.overload
        self.operator.overload = self._counted

    def _counted(self, *flat: Any) -> Any:
        self.calls += 1
        return self._whole(*flat)

    def known(self, args: dict[str, Any]) -> Seen:
        """After enough calls of this kind."""
        for _ in range(3):
            self.operator(**args)
        self.calls = 0
        return self


@pytest.mark.parametrize("name", KERNELS)
def test_the_same_launches_and_outputs_with_the_dispatcher_and_without(name: str, double: DriverDouble) -> None:
    seen = Seen(name)
    counts = []
    for i in range(6):
        args = good(name, 16 * (1 + i % 2), 64)
        wanted = outcome(seen.checked, double, args, {})
        double.launched.clear()
        found = seen.operator(**args)
        assert [list(x.parameters)[-2:] for x in double.launched] != [] and len(double.launched) == 1
        assert {n: described(x) for n, x in found.items()} == wanted[2]
        counts.append(seen.calls)
    in_place = any(a.direction == "inout" for a in seen.kernel.manifest.kernel.args)
    assert counts == ([1, 2, 3, 4, 5, 6] if in_place else [1, 2, 3, 4, 4, 4])


def test_what_requires_a_gradient_is_refused_and_is_not_without_one(double: DriverDouble) -> None:
    args = good("scaler", 16, 32)
    seen = Seen("scaler").known(args)
    with pytest.raises(fp4rt.TorchError, match="FP6118"):
        seen.operator(**{**args, "x": args["x"].requires_grad_()})
    with pytest.raises(fp4rt.TorchError, match="FP6118"):
        seen.operator(**{**args, "x": args["x"].detach(), "shift": args["shift"].clone().requires_grad_()})
    assert seen.calls == 2
    with torch.no_grad():
        seen.operator(**args)
    values = good("quantizer", 16, 32)
    seen = Seen("quantizer").known(values)
    name = next(n for n, v in values.items() if v.is_floating_point())
    with pytest.raises(fp4rt.TorchError, match="FP6118"):
        seen.operator(**{**values, name: values[name].requires_grad_()})


class Modes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A tensor of a class of its own, of which the dispatcher tells its class."""


def test_modes_transforms_tracers_and_classes_see_the_operator(double: DriverDouble) -> None:
    args = good("scaler", 16, 32)
    seen = Seen("scaler").known(args)
    short = seen.operator.name.replace("::", ".")
    for mode in (Modes(), Functions()):
        with mode:
            seen.operator(**args)
        assert any(short in name for name in mode.names)
    with torch.profiler.profile() as profile:
        seen.operator(**args)
    assert seen.operator.name in {event.name for event in profile.events() or []}
    graph = make_fx(lambda x, shift: seen.operator(x=x, shift=shift)["y"], tracing_mode="fake")(
        args["x"], args["shift"]
    )
    assert short in graph.code
    seen.operator(**{**args, "x": args["x"].as_subclass(Wrapped)})
    assert seen.calls == 5
    with pytest.raises(fp4rt.TorchError, match="FP6117"):
        torch.vmap(lambda x: seen.operator(**{**args, "x": x})["y"])(torch.zeros(3, 16, 32))
    with pytest.raises(fp4rt.TorchError, match="FP6118"):
        torch.func.grad(lambda x: seen.operator(**{**args, "x": x})["y"].sum())(args["x"])
    seen.calls = 0
    seen.operator(**args)
    assert seen.calls == 0


def test_wrong_arguments_have_the_errors_of_the_checks(double: DriverDouble) -> None:
    args = good("scaler", 16, 32)
    seen = Seen("scaler").known(args)
    for wrong in (
        {**args, "x": args["x"].double()},
        {**args, "x": args["x"].t()},
        {**args, "x": None},
        {"x": args["x"]},
        {**args, "other": 1},
        {**args, "gain": "1"},
    ):
        with pytest.raises((fp4rt.ArgumentError, fp4rt.DimensionError, RuntimeError, TypeError)) as direct:
            seen.operator(**wrong)
        seen.operator._direct, kept = None, seen.operator._direct
        with pytest.raises(type(direct.value)) as dispatched:
            seen.operator(**wrong)
        seen.operator._direct = kept
        assert str(direct.value) == str(dispatched.value)


def test_kinds_that_never_become_ready_are_not_checked_twice_for_ever(double: DriverDouble) -> None:
    seen = Seen("scaler")
    tries = 0
    whole = seen.kernel.checked

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal tries
        tries += 1
        return whole(*given, **named)

    seen.kernel.quick.learn = lambda *_: None  # type: ignore[union-attr, method-assign]
    seen.kernel.checked = counted  # type: ignore[method-assign]
    args = good("scaler", 16, 32)
    for _ in range(6):
        seen.operator(**args)
    assert tries <= 3
