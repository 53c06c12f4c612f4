"""What a call takes and makes is freed with the last reference to it, without a look for cycles.

torch's trees of CUDA graphs refuse to go on while memory of their pool is held by anybody else.
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


@pytest.mark.parametrize("how", ["kernel", "by name", "on tensors"])
@pytest.mark.parametrize("name", KERNELS)
def test_inputs_and_outputs(name: str, how: str) -> None:
    kernel = pair(name)[0]
    operator = kernel.as_torch_op(f"fp4cc_test_freed::k{next(_names)}")
    prepared = Prepared(kernel, Schema(kernel.manifest.kernel))
    calls: dict[str, Callable[..., Any]] = {
        "kernel": kernel,
        "by name": operator,
        "on tensors": lambda **args: dict(enumerate(prepared(operator.tensors(**args)))),
    }
    call = calls[how]
    for m in (16, 16, 32, 16):
        args = good(name, m, 32)
        given = [t for each in args.values() for t in tensors(each)]
        own = {t.data_ptr() for t in given}
        made = [t for t in tensors(call(**args)) if t.data_ptr() not in own]
        assert made
        held = [StorageWeakRef(t.untyped_storage()) for t in (*given, *made)]
        assert not any(ref.expired() for ref in held)
        del args, given, made
        assert all(ref.expired() for ref in held)
