"""The verifier notices each kind of broken kernel; a fault of ours gets its own code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Constraint, Kernel, Value
from fp4cc.ir.verify import verify
from fp4cc.sema import analyze
from fp4cc.source import Source

TEXT = (
    "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; in v : f32[N]; in ts : f32[]\n"
    "out y : f32[M, N]; out q : nvfp4[M, N]\n"
    "h = where(v > 0, a @ b.T, 1)\ny = h\nq = quantize(h, tensor_scale = ts) }"
)


@pytest.fixture
def kernel() -> Kernel:
    (made,) = analyze(Source("t", TEXT)).raise_errors().kernels
    verify(made)
    return made


def broken(kernel: Kernel, which: str, **changes: object) -> Kernel:
    """The kernel with the first value of an operation changed."""
    index = next(i for i, v in enumerate(kernel.values) if v.op == which)
    values = list(kernel.values)
    values[index] = replace(values[index], **changes)  # type: ignore[arg-type]
    return replace(kernel, values=tuple(values))


def refused(kernel: Kernel) -> str:
    with pytest.raises(DiagnosticError) as caught:
        verify(kernel, after="a test")
    assert {d.code for d in caught.value.diagnostics} == {"FP9001"}
    return " ".join(d.labels[0].text for d in caught.value.diagnostics)


def test_operations(kernel: Kernel) -> None:
    assert "no such operation" in refused(broken(kernel, "gt", op="greater"))
    assert "operands" in refused(broken(kernel, "gt", operands=(0,)))
    assert "does not come before" in refused(broken(kernel, "gt", operands=(99, 99)))
    assert "None is no number" in refused(broken(kernel, "const", attrs={}))


def test_types_and_axes(kernel: Kernel) -> None:
    assert "not f32" in refused(broken(kernel, "mul", dtype="bf16"))
    assert "axes" in refused(broken(kernel, "mul", axes=("M",)))
    assert "swapped" in refused(broken(kernel, "transpose", axes=("N", "K")))
    assert "@" in refused(broken(kernel, "matmul", axes=("N", "M")))
    assert "are not those of 'a'" in refused(broken(kernel, "arg", axes=("K", "M")))
    assert "not a format" in refused(broken(kernel, "quantize", dtype="f32"))
    assert "no tensor scale" in refused(broken(kernel, "tensor_scale", attrs={"name": "v"}))
    assert "no argument" in refused(broken(kernel, "tensor_scale", attrs={"name": "zz"}))


def test_stores(kernel: Kernel) -> None:
    assert "its outputs are" in refused(replace(kernel, stores=kernel.stores[:1]))
    first, second = kernel.stores
    assert "own type" in refused(replace(kernel, stores=(first, replace(second, value=first.value))))
    assert "own type" in refused(replace(kernel, stores=(replace(first, value=second.value), second)))
    assert "does not exist" in refused(replace(kernel, stores=(replace(first, value=999), second)))


def test_names(kernel: Kernel) -> None:
    span = kernel.span
    extra = Constraint(("eq", "Q", 1), "Q == 1", span)
    assert "unknown size" in refused(replace(kernel, constraints=(extra,)))
    assert "one name" in refused(replace(kernel, args=(*kernel.args, kernel.args[0])))
    assert isinstance(kernel.values[0], Value)
