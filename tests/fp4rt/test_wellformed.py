"""Typed kernels that mean nothing are refused when the manifest is read, with the place; calls keep their limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fp4rt
from fp4rt import ArtifactError, DeviceError
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.devices.reference import ReferenceDevice
from fp4rt.manifest import Launch, Manifest, Plan, dump, dumps, loads, parse
from fp4rt.typed import Arg, Axis, Dim, Store, TypedKernel, Value

from .conftest import gemm_kernel, uncompiled

Edit = Callable[[Any], None]


def manifest(kernel: TypedKernel) -> Any:
    return json.loads(json.dumps(dump(Manifest(kernel.name, "sm_100a", kernel, Plan(())))))


def set_at(path: str, value: object) -> Edit:
    """An edit: assign at "values.0.op"; `...` deletes."""

    def edit(kernel: Any) -> None:
        *parents, last = [int(p) if p.lstrip("-").isdigit() else p for p in path.split(".")]
        for p in parents:
            kernel = kernel[p]
        if value is ...:
            del kernel[last]
        else:
            kernel[last] = value

    return edit


#: Of `gemm_kernel`: 0 a, 1 b, 2 transpose, 3 matmul, 4 and 5 tensor scales, 6 and 7 products of numbers; c = 7.
WRONG: list[tuple[Edit, str | None]] = [
    (set_at("dims.1.name", "M"), "dims: two have one name"),
    (set_at("dims.0.name", "M M"), "'M M' is no name"),
    (set_at("dims.0.expr", "Q"), "unknown size 'Q'"),
    (set_at("args.0.name", "a.codes"), "'a.codes' is no name"),
    (set_at("args.0.axes", []), "a quantized argument has axes"),
    (set_at("args.0.axes.0.name", "K"), "two of its axes have one name"),
    (set_at("args.0.axes.0.extent", "Q"), "unknown size 'Q'"),
    (set_at("args.0.axes.0.by", "b"), "'b' is no input of integers with one axis"),
    (set_at("args.0.axes.0.upto", "z"), "'z' is no input of integers"),
    (set_at("args.0.dtype.layout.atom_stride", [[4, 16], 1]), "layout blocked_128x4"),
    (set_at("values.0.op", "load"), "there is no such operation"),
    (set_at("values.0.attrs.name", "c"), "'c' is no argument that can be read"),
    (set_at("values.0.attrs.name", ["a"]), "is no argument that can be read"),
    (set_at("values.0.attrs.name", "b"), "not those of 'b'"),
    (set_at("values.0.dtype", "f32"), "not those of 'a'"),
    (set_at("values.0.axes", ["K", "M"]), "not those of 'a'"),
    (set_at("values.2.axes", ["N", "K"]), "with the last two axes swapped"),
    (set_at("values.3.attrs.k", "M"), "over 'M' is not"),
    (set_at("values.3.axes", ["N", "M"]), r"is not \['N', 'M'\]"),
    (set_at("values.3.axes", ["M"]), "it multiplies matrices"),
    (set_at("values.3.dtype", "bf16"), "gives f32"),
    (set_at("values.3.attrs.ragged", "a"), "has the attributes ragged and groups"),
    (set_at("values.3.operands", [0]), "takes 2 to 2 operands, not 1"),
    (set_at("values.4.attrs", {}), "None is no argument"),
    (set_at("values.6.axes", ["M"]), r"its axes \['M'\] are not its operands' \[\]"),
    (set_at("values.6.operands", [0, 1]), "are not its operands' \\['K', 'M', 'N'\\]"),
    (lambda k: k["values"][7].update(dtype=k["args"][0]["dtype"]), "no quantized tensors"),
    (set_at("values.6.dtype", "bool"), "its type is bool, not f32"),
    (set_at("values.6.op", "and"), "its operands are"),
    (set_at("values.7.axes", ["M", "M"]), "two of its axes have one name"),
    (set_at("stores", []), "it stores"),
    (set_at("stores.0.value", 0), "c is not given its own type"),
    (set_at("stores.0.value", 4), None),  # a number fills the output
    (set_at("args.2.axes", [{"name": "N", "extent": "N", "by": None, "upto": None}]), "c has the axes"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG)
def test_a_product_that_means_nothing(edit: Edit, message: str | None) -> None:
    data = manifest(gemm_kernel())
    edit(data["kernel"])
    if message is None:
        parse(data)
        return
    with pytest.raises(ArtifactError, match=message) as caught:
        parse(data)
    assert caught.value.code == "FP6009"


def _over(op: str, attrs: dict[str, Any], axes: tuple[str, ...] = ("M", "N"), extra: tuple[Value, ...] = ()) -> Any:
    """A kernel y = op(x) for x f32[M, N]."""
    two = (Axis("M", "M"), Axis("N", "N"))
    out = tuple(Axis(name, name) for name in axes)
    operands = (0, *range(1, 1 + len(extra)))
    values = (Value("arg", (), "f32", ("M", "N"), {"name": "x"}), *extra, Value(op, operands, "f32", axes, attrs))
    args = (Arg("x", "in", "f32", two), Arg("y", "out", "f32", out))
    names = ("M", "N", *(name for name in axes if name not in "MN"))
    return manifest(TypedKernel("k", tuple(map(Dim, names)), args, values, (Store("y", len(values) - 1),)))


HALF = {"axis": "N", "into": "H", "group": 1, "part": 0}


@pytest.mark.parametrize(
    ("op", "attrs", "axes", "message"),
    [
        ("reduce", {"kind": "sum", "over": ["N"]}, ("M",), None),
        ("reduce", {"kind": "prod", "over": ["N"]}, ("M",), "its kind is one of"),
        ("reduce", {"kind": ["sum"], "over": ["N"]}, ("M",), "its kind is one of"),
        ("reduce", {"kind": "sum", "over": ["K"]}, ("M", "N"), "over is"),
        ("reduce", {"kind": "sum", "over": ["N", "N"]}, ("M",), "over is"),
        ("reduce", {"kind": "sum", "over": [["N"]]}, ("M",), "over is"),
        ("reduce", {"kind": "sum", "over": 3}, ("M",), "over is 3"),
        ("reduce", {"kind": "sum", "over": ["N"]}, ("N",), "its axes are"),
        ("unzip", HALF, ("M", "H"), None),
        ("unzip", {**HALF, "part": 2}, ("M", "H"), "part 2 of"),
        ("unzip", {**HALF, "axis": ["N"]}, ("M", "H"), "part 0 of"),
        ("unzip", {**HALF, "group": "Q"}, ("M", "H"), "unknown size 'Q'"),
        ("unzip", {**HALF, "group": ["mul", 2]}, ("M", "H"), None),
        ("unzip", {**HALF, "group": ["sub", 2]}, ("M", "H"), "takes 2 operands"),
        ("unzip", {**HALF, "group": None}, ("M", "H"), "None is no size"),
        ("hadamard", {"axis": "N", "size": 16}, ("M", "N"), None),
        ("hadamard", {"axis": "N", "size": 12}, ("M", "N"), "power of two"),
        ("hadamard", {"axis": "N", "size": 2**40}, ("M", "N"), "power of two"),
        ("hadamard", {"axis": "N", "size": "N"}, ("M", "N"), "power of two"),
        ("hadamard", {"axis": "K", "size": 16}, ("M", "N"), "has not the axis"),
        ("uniform", {"stream": 0}, ("M", "Q Q"), "unknown size|no name"),
        ("uniform", {"stream": -1}, ("M", "N"), "its stream is a whole number"),
        ("uniform", {"stream": 2**32}, ("M", "N"), "its stream is a whole number"),
        ("uniform", {"stream": "M"}, ("M", "N"), "its stream is a whole number"),
        ("quantize", {"mode": "none"}, ("M", "N"), "its type is not a format"),
        ("quantize", {"mode": "none", "stream": 0.5}, ("M", "N"), "its stream is a whole number"),
        ("dequantize", {}, ("M", "N"), "its operand is not quantized"),
        ("matmul", {"k": "N"}, ("M", "N"), "takes 2 to 2 operands"),
        ("where", {}, ("M", "N"), "takes 3 to 3"),
    ],
)
def test_operations_on_whole_tensors(op: str, attrs: Any, axes: tuple[str, ...], message: str | None) -> None:
    data = _over(op, attrs, axes)
    if message is None:
        parse(data)
        return
    with pytest.raises(ArtifactError, match=f"FP6009.*({message})"):
        parse(data)


@pytest.mark.parametrize(
    ("edit", "code", "message"),
    [
        (lambda d: d["launches"].extend([{}] * 20_001), "FP6010", "20001 entries"),
        (lambda d: d["toolchain"].update(a="\ud800"), "FP6002", "is not Unicode text"),
        (lambda d: d["toolchain"].update({"\ud800": "a"}), "FP6002", "is not Unicode text"),
        (lambda d: d["toolchain"].update(a="x" * 70_000), "FP6002", "70000 characters"),
        (lambda d: d["kernel"]["dims"][0].update(value=10**400), "FP6002", "is outside"),
        (lambda d: d["kernel"]["dims"][0].update(expr=[["add"], 1]), "FP6002", "starts with its operator"),
        (lambda d: d["kernel"]["dims"][0].update(expr=["sub", 1]), "FP6002", "'sub' takes 2 operands"),
        (lambda d: d["kernel"]["dims"][0].update(expr=2**64), "FP6002", "64-bit range"),
        (lambda d: d["kernel"]["args"][0]["dtype"].update(name=3), "FP6002", "not a block format"),
        (lambda d: d["kernel"]["args"][0]["dtype"].update(block=[1, 2**40]), "FP6002", "not a block format"),
        (lambda d: d["kernel"]["args"][0]["dtype"]["layout"].update(coords=3), "FP6002", "not a block format"),
        (lambda d: d["kernel"]["args"][0].update(default=10**400), "FP6002", "too large for a float"),
        (lambda d: d["kernel"]["values"][0]["attrs"].update(x={}), "FP6002", "an attribute is"),
        (lambda d: d.update(workspace="Q"), "FP6002", "unknown size 'Q'"),
    ],
)
def test_what_is_read_at_all(edit: Edit, code: str, message: str) -> None:
    data = manifest(gemm_kernel())
    edit(data)
    with pytest.raises(ArtifactError, match=message) as caught:
        loads(json.dumps(data))
    assert caught.value.code == code


def _launches(count: int, **changes: Any) -> str:
    launch = replace(Launch("k", (1, 1, 1), (32, 1, 1), (1, 1, 1), 0, ()), **changes)
    return dumps(Manifest("gemm", "sm_100a", gemm_kernel(), Plan((launch,) * count)))


def test_launches() -> None:
    assert len(loads(_launches(32)).plan.launches) == 32
    with pytest.raises(ArtifactError, match="FP6010.*33 launches"):
        loads(_launches(33))
    with pytest.raises(ArtifactError, match="64 threads along z"):
        loads(_launches(1, block=(1, 1, 65)))


# limits of calls


def test_a_call_beyond_the_memory_is_refused_before_it_starts(gemm: TypedKernel) -> None:
    args = fp4rt.random_inputs(gemm, {"M": 64, "N": 64, "K": 64})
    kernel = uncompiled(gemm).load_kernel(ReferenceDevice(memory_limit=100_000))
    with pytest.raises(DeviceError, match=r"FP6120: interpreting gemm needs .* GB, of 0\.0 GB"):
        kernel(**args)
    with pytest.raises(DeviceError, match=r"FP6120: making random inputs"):
        fp4rt.random_inputs(gemm, {"M": 2**30, "N": 64, "K": 2**20})


def test_an_output_that_no_machine_holds(reference: Callable[[TypedKernel], fp4rt.Kernel]) -> None:
    kernel = TypedKernel(
        "k",
        (Dim("M", 2**23), Dim("N", 2**22)),
        (Arg("x", "in", "f32", ()), Arg("y", "out", "f32", (Axis("M", "M"), Axis("N", "N")))),
        (Value("arg", (), "f32", (), {"name": "x"}),),
        (Store("y", 0),),
    )
    with pytest.raises(DeviceError, match=r"FP6120: an output of shape \(8388608, 4194304\)"):
        reference(kernel)(x=1.0)


def test_the_reference_keeps_its_time(gemm: TypedKernel) -> None:
    args = fp4rt.random_inputs(gemm, {"M": 64, "N": 64, "K": 64})
    with pytest.raises(DeviceError, match="FP6121: interpreting gemm did not end within 0 s"):
        uncompiled(gemm).load_kernel(ReferenceDevice(time_limit=0.0))(**args)


def test_shapes_that_only_the_call_shows_not_to_fit(reference: Callable[[TypedKernel], fp4rt.Kernel]) -> None:
    """Two axes of one name and different extents."""
    args = (
        Arg("x", "in", "f32", (Axis("M", "M"),)),
        Arg("v", "in", "f32", (Axis("M", ("add", "M", 1)),)),
        Arg("y", "out", "f32", (Axis("M", "M"),)),
    )
    values = (
        Value("arg", (), "f32", ("M",), {"name": "x"}),
        Value("arg", (), "f32", ("M",), {"name": "v"}),
        Value("add", (0, 1), "f32", ("M",)),
    )
    kernel = TypedKernel("k", (Dim("M"),), args, values, (Store("y", 2),))
    with pytest.raises(DeviceError, match=r"FP6307: value 2 of k \(add over M\) cannot be computed"):
        reference(kernel)(x=np.ones(3, np.float32), v=np.ones(4, np.float32))


SPIN = """.version 8.7
.target sm_100a
.address_size 64
.visible .entry gemm(.param .u64 c) {
    .reg .pred %p<2>; .reg .b32 %r<3>; .reg .b64 %rd<2>;
    ld.param.u64 %rd1, [c];
    mov.u32 %r1, 0;
LOOP:
    add.s32 %r1, %r1, 1;
    st.global.u16 [%rd1], 0;
    setp.ne.u32 %p1, %r1, 4000000000;
    @%p1 bra LOOP;
    ret;
}
"""


def test_the_emulator_keeps_its_time_and_the_size_of_its_grids(gemm: TypedKernel) -> None:
    from fp4rt.manifest import Param, place

    launch = Launch("gemm", (1, 1, 1), (32, 1, 1), (1, 1, 1), 0, place([Param("pointer", "c")]))
    args = fp4rt.random_inputs(gemm, {"M": 4, "N": 8, "K": 32})

    def run(launch: Launch, **limits: Any) -> None:
        made = fp4rt.Artifact.build(Manifest("gemm", "sm_100a", gemm, Plan((launch,))), {"gemm.ptx": SPIN.encode()})
        made.load_kernel(EmulatorDevice(**limits))(**args)

    with pytest.raises(DeviceError, match=r"FP6121: emulating gemm did not end within 0\.1 s: .*entry gemm"):
        run(launch, time_limit=0.1)
    with pytest.raises(DeviceError, match=r"FP6121: gemm has a grid of \(2147483647, 1, 1\): .* 1048576 CTAs"):
        run(replace(launch, grid=(2**31 - 1, 1, 1)))
    with pytest.raises(DeviceError, match="FP6120: emulating gemm"):
        run(launch, memory_limit=100)
