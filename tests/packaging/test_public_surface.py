"""What a user sees of the packages at a Python prompt: names, versions, types, and objects in a line each."""

from __future__ import annotations

import pickle
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

import fp4cc
import fp4emu
import fp4num
import fp4rt
from fp4cc.driver import Request, build, read_spec
from fp4rt import arrays
from fp4rt.arrays import Output

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "examples" / "nvfp4_gemm.fp4"
WRONG = "kernel k(M) {\n    in a : nvfp5[M]\n    out b : f32[M]\n    b = a\n}\n"


@pytest.fixture(scope="module")
def objects() -> dict[str, object]:
    """One object of each public class that holds more than a few numbers."""
    artifact = fp4cc.compile(SPEC, plans=2)
    a = fp4rt.quantize(np.ones((512, 512), np.float32), "nvfp4")
    kernel = artifact.load_kernel("emulator")
    gpu = fp4emu.Gpu()
    with pytest.raises(fp4cc.DiagnosticError) as stop:
        fp4cc.compile(WRONG)
    built = build(Request(read_spec(SPEC), plans=2))  # from the cache
    return {
        "artifact": artifact,
        "manifest": artifact.manifest,
        "typed kernel": artifact.manifest.kernel,
        "quantized": a,
        "kernel": kernel,
        "bound call": kernel.bind(a=a, b=a),
        "resolved plan": kernel.resolve({"M": 512, "N": 512, "K": 512}),
        "gpu": gpu,
        "module": gpu.load(artifact.ptx()),
        "format": a.format,
        "layout": a.format.layout,
        "proof": a.format.layout.prove(),
        "error": stop.value,
        "diagnostic": stop.value.diagnostics[0],
        "request": Request(read_spec(SPEC)),
        "built": built,
        "built kernel": built.kernels[0],
    }


def test_every_object_is_a_line_or_so(objects: dict[str, object]) -> None:
    long = {name: len(repr(value)) for name, value in objects.items() if len(repr(value)) > 400}
    assert not long
    assert not {name for name, value in objects.items() if "\n" in repr(value) or " object at 0x" in repr(value)}


def test_a_line_says_what_the_object_is(objects: dict[str, object]) -> None:
    assert "nvfp4_gemm for sm_100a: nvfp4_gemm.cubin (" in repr(objects["artifact"])
    assert repr(objects["typed kernel"]) == "<kernel nvfp4_gemm(M, N, K): in a, in b, out c; 8 values>"
    expected = (
        "<nvfp4[512, 512]: codes uint8 [512, 256], scales uint8 [16384] in blocked_128x4, tensor_scale float32 []>"
    )
    assert repr(objects["quantized"]) == expected
    assert repr(objects["bound call"]).startswith("<fp4rt call of nvfp4_gemm on emulator at M = 512, ")
    assert repr(objects["gpu"]) == "<fp4emu GPU sm_100a, immediate, seed 0>"


def test_dir_names_what_can_be_used() -> None:
    for package in (fp4cc, fp4rt, fp4num, fp4emu):
        assert set(package.__all__) <= set(dir(package))
        assert all(hasattr(package, name) for name in package.__all__)
    assert {"compile", "__version__"} <= set(dir(fp4cc))
    with pytest.raises(AttributeError, match="no attribute 'compil'"):
        fp4cc.compil  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert fp4cc.__version__ == fp4rt.__version__
    assert fp4cc.__version__ in (declared, import_module("fp4cc.version").UNINSTALLED)


def test_the_text_of_an_error_has_the_line_the_marks_and_the_help() -> None:
    with pytest.raises(fp4cc.DiagnosticError) as stop:
        fp4cc.compile(WRONG)
    title, *shown = str(stop.value).splitlines()
    assert title.startswith("error[FP2019]: ")
    assert shown[:3] == ["  --> <text>:2:12", "   |", " 2 |     in a : nvfp5[M]"]
    assert shown[3].startswith("   |            ^^^^^ ")
    assert "did you mean `nvfp4`?" in str(stop.value)
    back = pickle.loads(pickle.dumps(stop.value))  # noqa: S301  # as a pool of processes does
    assert str(back) == str(stop.value)
    assert back.diagnostics == stop.value.diagnostics


def test_outputs_have_a_type() -> None:
    """An array of numpy, a tensor of torch or a `Quantized`: not `Any`, which a type checker lets do anything."""
    assert get_args(eval(Output, vars(arrays))) == (NDArray[Any], arrays.Tensor, fp4num.Quantized)  # noqa: S307
    for function in (fp4rt.Kernel.__call__, fp4rt.Bound.__call__, fp4rt.Bound.outputs.fget):
        assert function.__annotations__["return"] == "dict[str, Output]"
    assert fp4rt.random_inputs.__annotations__["return"] == "dict[str, Input]"
