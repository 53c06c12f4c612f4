"""Pickling and copying: errors come back whole, a kernel is loaded again, and what cannot be is refused by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fp4emu.errors
import fp4rt
from fp4cc.backend.process import BackendError
from fp4cc.diagnostics import DiagnosticError
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4num import FORMATS, Quantized
from fp4num.errors import LayoutError
from fp4rt import Kernel, errors
from fp4rt.devices.reference import ReferenceDevice
from fp4rt.errors import DeviceError, RuntimeFault
from fp4rt.typed import TypedKernel

from .conftest import uncompiled


def _kinds(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _state(error: BaseException) -> dict[str, Any]:
    return {"text": str(error), "args": error.args, **error.__dict__}


def _pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # what was pickled here


COPIES: list[Callable[[Any], Any]] = [_pickled, copy.copy, copy.deepcopy]


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("kind", [k for k in _kinds(RuntimeFault) if k.__module__ == errors.__name__])
def test_every_error_of_the_runtime(kind: type[RuntimeFault], duplicate: Callable[[Any], Any]) -> None:
    error = kind("what is wrong", help="what to do")
    again = duplicate(error)
    assert type(again) is kind
    assert _state(again) == _state(error)
    assert again.title == error.title


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize(
    "error",
    [
        errors.ArgumentError("wrong", argument="a", code="FP6105", help="x"),
        errors.ConstraintError("wrong", text="N % 4 == 0", span="a.fp4:1:1"),
        fp4emu.errors.Fault("wrong", hint="h", place=fp4emu.errors.Place(3, "ret;")),
        fp4emu.errors.Deadlock("wrong", ("warp 0 waits",), hint="h"),
        LayoutError("wrong", first={"k": 1}, offset=3),
        BackendError("reason", "tail", "kernel"),
    ],
)
def test_errors_with_more_to_say(error: Exception, duplicate: Callable[[Any], Any]) -> None:
    assert _state(duplicate(error)) == _state(error)


def test_a_diagnostic_error() -> None:
    with pytest.raises(DiagnosticError) as caught:
        analyze(Source("a.fp4", "kernel k(M) { in x : f32[M]; out y : f32[M]; y = z }\n")).raise_errors()
    again = _pickled(caught.value)
    assert str(again) == str(caught.value)
    assert again.diagnostics == caught.value.diagnostics
    assert str(copy.deepcopy(caught.value)) == str(caught.value)


# kernels


def test_a_kernel_is_loaded_again(gemm: TypedKernel) -> None:
    kernel = uncompiled(gemm).load_kernel("reference")
    again = _pickled(kernel)
    assert isinstance(again, Kernel)
    assert again.artifact == kernel.artifact
    args = fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32})
    np.testing.assert_array_equal(again(**args)["c"], kernel(**args)["c"])
    assert copy.copy(kernel) is kernel
    assert copy.deepcopy({"layer": kernel})["layer"] is kernel


def test_a_kernel_on_a_device_object_and_a_bound_call_are_refused(gemm: TypedKernel) -> None:
    kernel = uncompiled(gemm).load_kernel(ReferenceDevice())
    with pytest.raises(DeviceError, match=r"FP6122.*cannot be pickled"):
        pickle.dumps(kernel)
    bound = kernel.bind(**fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32}))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(DeviceError, match=r"FP6122.*copied or pickled"):
            attempt(bound)


# values that are no plain arrays


def test_masked_arrays(gemm: TypedKernel) -> None:
    plain = uncompiled(gemm).load_kernel("reference")
    args = fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32})
    a = args["a"]
    masked = Quantized(np.ma.masked_array(a.codes, a.codes > 3), a.scales, a.tensor_scale, a.format, a.shape)
    with pytest.raises(fp4rt.ArgumentError, match=r"FP6103: 'a\.codes' is a numpy masked array"):
        plain(a=masked, b=args["b"])
    with pytest.raises(fp4rt.ArgumentError, match="FP6111"):
        plain(**args, workspace=np.ma.zeros(64, np.uint8))
    with pytest.raises(fp4rt.ArgumentError, match="FP6103.*masked"):
        plain(**args, out={"c": np.ma.zeros((4, 8), np.uint16)})
    for action in (lambda x: fp4rt.encode(x, "bf16"), lambda x: fp4rt.decode(x.astype(np.uint16), "bf16")):
        with pytest.raises(ValueError, match="is a masked array, whose mask would be lost"):
            action(np.ma.masked_array(np.ones(3, np.float32), [True, False, False]))


def test_subclasses_of_arrays_are_taken_for_their_elements(gemm: TypedKernel) -> None:
    """np.matrix has two axes even where it is reshaped to one, which must not change what is written."""
    kernel = uncompiled(gemm).load_kernel("reference")
    args = fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32})
    expected = kernel(**args)["c"]
    with pytest.warns(PendingDeprecationWarning):
        out = np.matrix(np.zeros((4, 8), np.uint16))
    found = kernel(**args, out={"c": out})["c"]
    assert found is out
    np.testing.assert_array_equal(np.asarray(found), expected.view(np.uint16))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"shape": None}, "FP6105"),
        ({"shape": ("a", 32)}, "FP6105"),
        ({"shape": (4, -32)}, "FP6105"),
        ({"shape": (4.0, 32)}, "FP6105"),
        ({"shape": (4, 17)}, "FP6105"),
        ({"shape": ()}, "FP6105"),
        ({"shape": 4}, "FP6105"),
        ({"codes": None}, "FP6103"),
        ({"scales": "x"}, "FP6103"),
    ],
)
def test_a_quantized_made_of_anything(gemm: TypedKernel, change: dict[str, Any], code: str) -> None:
    args = fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32})
    a = args["a"]
    fields = {name: getattr(a, name) for name in ("codes", "scales", "tensor_scale", "format", "shape")}
    value = Quantized(**{**fields, **change})
    with pytest.raises(RuntimeFault) as caught:
        uncompiled(gemm).load_kernel("reference")(a=value, b=args["b"])
    assert caught.value.code == code


@pytest.mark.parametrize("name", [None, [], {}, 3, "nothing"])
def test_what_is_no_format(name: Any) -> None:
    with pytest.raises(ValueError, match="there are nvfp4"):
        fp4rt.quantize(np.ones((1, 16), np.float32), name)
    with pytest.raises(ValueError, match="there are e2m1"):
        fp4rt.encode(np.ones(16, np.float32), name)
    q = fp4rt.quantize(np.ones((1, 16), np.float32), FORMATS["nvfp4"])
    with pytest.raises(ValueError, match="the format of a Quantized is a BlockFormat"):
        Quantized(q.codes, q.scales, q.tensor_scale, name, q.shape)
