"""What a call takes and makes is freed with the last reference to it, without a look for cycles, and calls keep none.

torch's trees of CUDA graphs refuse to go on while memory of their pool is held by anybody else: that of a call's own
buffers, or what the runtime keeps of it, where a kernel's first call falls into the warm-up or into the recording.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from fp4rt.cuda import driver
from fp4rt.torch.prepared import Prepared
from fp4rt.torch.schema import Schema

from ...driver_double import DriverDouble, install
from .test_repeated_calls import KERNELS, good, pair

pytestmark = pytest.mark.torch
_names = itertools.count()


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> DriverDouble:
    found = install(monkeypatch)
    monkeypatch.setattr(driver, "raw_stream", lambda device: 7)
    return found


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def tensors(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for each in value.values() for t in tensors(each)]
    parts = (getattr(value, name, None) for name in ("codes", "scales", "tensor_scale"))
    return [t for t in parts if isinstance(t, torch.Tensor)]


HOW = ["kernel", "by name", "on tensors"]


def caller(name: str, how: str) -> Callable[..., Any]:
    """A way to call a kernel that has never been called."""
    kernel = pair(name)[0]
    operator = kernel.as_torch_op(f"fp4cc_test_freed::k{next(_names)}")
    prepared = Prepared(kernel, Schema(kernel.manifest.kernel))
    calls: dict[str, Callable[..., Any]] = {
        "kernel": kernel,
        "by name": operator,
        "on tensors": lambda **args: dict(enumerate(prepared(operator.tensors(**args)))),
    }
    return calls[how]


def with_memory() -> dict[int, torch.Tensor]:
    """Every tensor that there is now and has memory, by the address of its memory."""
    found = [x for x in gc.get_objects() if type(x) in (torch.Tensor, torch.nn.Parameter)]
    return {x.untyped_storage().data_ptr(): x for x in found if x.untyped_storage().nbytes()}


@pytest.mark.parametrize("turns", [1, 2, 6])
def test_a_call_keeps_no_memory(turns: int) -> None:
    """The first of its kind, one that is learned from, and a quick one of a kernel, however it is called."""
    before, kept = with_memory(), []
    for name, how in itertools.product(KERNELS, HOW):
        call = caller(name, how)
        for m in (16, 32, 16, 32, 32, 16)[-turns:]:
            call(**good(name, m, 32))
        kept.append(call)
    after = with_memory()
    assert not [(x.shape, x.dtype) for at, x in after.items() if at not in before]


@pytest.mark.parametrize("how", HOW)
def test_inputs_and_outputs(how: str) -> None:
    for name in KERNELS:
        call = caller(name, how)
        for m in (16, 16, 32, 16):
            args = good(name, m, 32)
            given = [t for each in args.values() for t in tensors(each)]
            own = {t.data_ptr() for t in given}
            made = [t for t in tensors(call(**args)) if t.data_ptr() not in own]
            assert made
            held = [StorageWeakRef(t.untyped_storage()) for t in (*given, *made)]
            assert not any(ref.expired() for ref in held)
            del args, given, made
            assert all(ref.expired() for ref in held), name
