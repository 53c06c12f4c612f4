"""`kernel.prepare`: what it returns, what it leaves as it was, and who may not read it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fp4rt
from fp4cc.codegen.manifest import manifest as manifest_of
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import ArgumentError, Artifact, ArtifactError, Kernel
from fp4rt.arrays import view
from fp4rt.manifest import Manifest, dumps, loads
from fp4rt.prepared import Preparing

SPEC = """kernel NAME(M, N = 512, K = 256) { in x : e4m3[M, K]; in w : mxfp4[N, K]; out y : f32[M, N]
y = matmul(x, w.T, accumulate = fast) }"""


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """One that prepares w, not compiled: what the reference runs."""
    kernels = analyze(Source("k.fp4", SPEC.replace("NAME", "k")), None).raise_errors().kernels
    return manifest_of(lower(kernels[0], "sm_90a", 2), {}, {})


@pytest.fixture(scope="module")
def kernel(manifest: Manifest) -> Kernel:
    return Artifact(manifest).load_kernel("reference")


def weights(n: int = 512, k: int = 256) -> fp4rt.Quantized:
    return fp4rt.quantize(np.random.default_rng(n).standard_normal((n, k)).astype(np.float32), "mxfp4")


def inputs(k: int = 256) -> dict[str, Any]:
    return {"x": np.full((3, k), 0x38, np.uint8)}


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ArgumentError) as caught:
        call()
    return f"{caught.value.code}: {caught.value.message}"


def test_the_manifest_says_it(manifest: Manifest) -> None:
    (made,) = manifest.prepared
    assert made.arg == "w"
    assert loads(dumps(manifest)) == manifest
    assert [launch.module for launch in made.plan.launches] == ["k_rows"]
    assert {v.name for v in made.variants} <= {"k_p1", "k_p2"}
    assert {"k_rows", "k_p1"} <= set(manifest.modules())
    sources = {p.source for v in made.variants for x in v.plan.launches for p in x.params} | {
        m.source for v in made.variants for m in v.plan.tensor_maps
    }
    assert "w.prepared" in sources
    assert not sources & {"w.codes", "w.scales"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.update(arg="y"), "is no quantized input"),
        (lambda p: p.update(arg="x"), "is no quantized input"),
        (lambda p: p.update(bytes=["mul", "M", 4]), "'M' is not a size of w"),
        (lambda p: p.update(workspace=16), "it takes a workspace"),
        (lambda p: p["launches"][0]["params"][0].update(source="x"), "it takes ['x'] beside w"),
        (lambda p: p["variants"][0].update(name="k_v1"), "two have one name"),
        (lambda p: p.update(more=1), "more"),
    ],
)
def test_a_damaged_one_is_refused(manifest: Manifest, spoil: Callable[[Any], None], said: str) -> None:
    value = json.loads(dumps(manifest))
    spoil(value["prepared"][0])
    with pytest.raises(ArtifactError, match="FP60") as caught:
        loads(json.dumps(value))
    assert said in str(caught.value)


def test_calls_take_plans_by_what_is_prepared(kernel: Kernel) -> None:
    large = {"M": 4096, "N": 512, "K": 256}
    assert kernel.resolve(large).takes is None
    assert kernel.resolve(large, frozenset("w")).takes == "w"
    assert kernel.resolve({**large, "M": 64}, frozenset("w")) == kernel.resolve({**large, "M": 64})
    assert kernel.workspace_size(**large) >= kernel.resolve(large, frozenset("w")).workspace


def test_the_value_keeps_its_type_and_says_that_it_is_prepared(kernel: Kernel) -> None:
    w = weights()
    prepared = kernel.prepare(w)
    assert type(prepared) is fp4rt.Quantized
    assert prepared.codes is w.codes
    assert prepared.scales is w.scales
    assert repr(prepared) == repr(w)[:-1] + ", prepared for k>"
    assert repr(prepared.natural()) == repr(w)
    assert prepared[:128].prepared is None
    expected = kernel(**inputs(), w=w)["y"]
    assert np.array_equal(kernel(**inputs(), w=prepared)["y"], expected)
    assert np.array_equal(kernel(**inputs(), w=kernel.prepare(w=prepared))["y"], expected)


def test_saved_and_loaded(kernel: Kernel) -> None:
    w = kernel.prepare(weights())
    back = pickle.loads(pickle.dumps(w))  # noqa: S301
    assert back.prepared.codes is back.codes
    assert np.array_equal(kernel(**inputs(), w=back)["y"], kernel(**inputs(), w=w)["y"])
    w.codes[0, 0] ^= 1
    changed = pickle.loads(pickle.dumps(w))  # noqa: S301
    assert code_of(lambda: kernel(**inputs(), w=changed)).startswith("FP6311")


def test_wrong_use_is_named(kernel: Kernel, manifest: Manifest) -> None:
    w = kernel.prepare(weights())
    other = Artifact(replace(manifest, prepared=(replace(manifest.prepared[0], unfit=4),))).load_kernel("reference")
    assert code_of(lambda: other(**inputs(), w=w)) == (
        "FP6310: 'w' is prepared as 'w' of k, which was compiled otherwise, and not for this kernel, k"
    )
    none = Artifact(replace(manifest, prepared=())).load_kernel("reference")
    assert code_of(lambda: none(**inputs(), w=w)).startswith("FP6310: 'w' is prepared as 'w' of k, and not for")
    assert code_of(lambda: none.prepare(w)).startswith("FP6313: k prepares no argument")
    assert code_of(lambda: kernel.prepare()).startswith("FP6314: k prepares w, one at a time; 0 values")
    assert code_of(lambda: kernel.prepare(w, w=w)).startswith("FP6314: k prepares w, one at a time; 2 values")
    assert code_of(lambda: kernel.prepare(x=w)).startswith("FP6314: k does not prepare 'x'; it prepares w")
    assert code_of(lambda: kernel.prepare(w.codes)).startswith("FP6103: 'w' is mxfp4[N, K]: expected a Quantized")
    assert code_of(lambda: kernel.prepare(fp4rt.quantize(np.ones((512, 256), np.float32), "nvfp4"))).startswith(
        "FP6108"
    )
    copied = replace(w, codes=w.codes.copy())
    assert code_of(lambda: kernel(**inputs(), w=copied)).startswith("FP6311: 'w' has changed since it was prepared")
    w.scales[0] ^= 1
    assert code_of(lambda: kernel(**inputs(), w=w)).startswith("FP6311: 'w' has changed since it was prepared")


def test_what_was_made_elsewhere_is_not_read(kernel: Kernel, manifest: Manifest) -> None:
    """A device that runs plans needs the buffer beside the codes; the reference makes none."""
    w, device = kernel.prepare(weights()), Preparing(manifest, reads=True)
    parts = {"w.codes": view(w.codes)}
    assert code_of(lambda: device.read("w", w, parts)).startswith("FP6312: 'w' was prepared on the reference")
    whole = replace(w, prepared=replace(w.prepared, buffer=np.zeros(4, np.uint8)))
    found = device.read("w", whole, parts)
    assert found is not None
    assert found.array is whole.prepared.buffer
    assert device.read("w", w.natural(), parts) is None
    apart = {"w.codes": replace(parts["w.codes"], device=1)}
    assert code_of(lambda: device.read("w", whole, apart)).startswith("FP6312: 'w' was prepared somewhere else")


def test_sizes_come_from_the_argument_alone(kernel: Kernel) -> None:
    call = kernel.signature.alone("w", weights())
    assert call.dims == {"N": 512, "K": 256}
    assert set(call.parts) == {"w.codes", "w.scales"}
