"""Specs compiled for Hopper (`compile_specs.py`), on silicon: equal to the reference and to their emulation."""

from __future__ import annotations

import threading
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import fp4rt
from fp4rt.compare import compare_outputs
from fp4rt.signature import complete_dims
from fp4rt.sizes import evaluate
from fp4rt.trial import filled, masked_outputs

pytestmark = pytest.mark.gpu

BUILD = Path(__file__).parent / "build"
SIZES = ({"M": 256, "N": 256, "K": 256}, {"M": 300, "N": 192, "K": 992}, {"M": 1, "N": 64, "K": 64},
         {"M": 13, "N": 160, "K": 1312}, {"M": 1024, "N": 640, "K": 2048})  # fmt: skip


def artifacts() -> list[str]:
    """What was compiled: spec/kernel."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in BUILD.glob("*/*.json"))


def preparing() -> list[str]:
    """Those of which an argument can be prepared."""
    return [name for name in artifacts() if fp4rt.Artifact.load(BUILD / f"{name}.json").manifest.prepared]


def sizes(artifact: fp4rt.Artifact, wanted: dict[str, int]) -> dict[str, int]:
    """A value for each dynamic dim: the wanted one, or the next multiple that fits the kernel's blocks; 3 or 40."""
    manifest = artifact.manifest
    static = {d.name: d.value for d in manifest.kernel.dims if d.value is not None}
    free = [d.name for d in manifest.kernel.dims if d.value is None and d.expr is None]
    for multiple, other in product((1, 32, 128, 256), (3, 40)):
        dims = {name: -(-wanted[name] // multiple) * multiple if name in wanted else other for name in free}
        known = complete_dims(manifest.kernel, {**static, **dims})
        if all(evaluate(c.expr, known) for c in (*manifest.constraints, *manifest.plan_constraints)):
            return dims
    raise ValueError(f"no multiple fits {manifest.kernel.name}")


@pytest.fixture(params=artifacts(), scope="module")
def artifact(request: pytest.FixtureRequest) -> fp4rt.Artifact:
    return fp4rt.Artifact.load(BUILD / f"{request.param}.json")


def test_something_was_compiled() -> None:
    assert artifacts(), "run `python tests/gpu/compile_specs.py` where the compiler is installed"


def called(artifact: fp4rt.Artifact, device: str, dims: dict[str, int], seed: int) -> dict[str, Any]:
    """The outputs of a call on inputs of its own: an `inout` argument is overwritten."""
    inputs = fp4rt.random_inputs(artifact.manifest, dims, seed=seed)
    return artifact.load_kernel(device)(**inputs, **unwritten(artifact, inputs))


def unwritten(artifact: fp4rt.Artifact, inputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs to write to where rows past a group's stay as they are: the same numbers for every device."""
    return filled(masked_outputs(artifact.load_kernel("reference"), inputs))


@pytest.mark.parametrize("wanted", SIZES, ids=lambda w: "x".join(map(str, w.values())))
def test_equals_the_reference(artifact: fp4rt.Artifact, wanted: dict[str, int]) -> None:
    dims = sizes(artifact, wanted)
    found, expected = (called(artifact, device, dims, seed=7) for device in ("cuda", "reference"))
    assert [str(c) for c in compare_outputs(artifact.manifest, found, expected) if not c.equal] == []


@pytest.mark.parametrize("wanted", SIZES, ids=lambda w: "x".join(map(str, w.values())))
@pytest.mark.parametrize("name", preparing())
def test_prepared_arguments_change_nothing(name: str, wanted: dict[str, int]) -> None:
    artifact = fp4rt.Artifact.load(BUILD / f"{name}.json")
    dims, kernel = sizes(artifact, wanted), artifact.load_kernel("cuda")
    inputs: dict[str, Any] = fp4rt.random_inputs(artifact.manifest, dims, seed=9)
    prepared = {m.arg: kernel.prepare(**{m.arg: inputs[m.arg]}) for m in artifact.manifest.prepared}
    assert all(value.prepared.buffer is not None for value in prepared.values())
    expected = artifact.load_kernel("reference")(**deepcopy(inputs), **unwritten(artifact, inputs))
    found = kernel(**{**deepcopy(inputs), **prepared}, **unwritten(artifact, inputs))
    assert [str(c) for c in compare_outputs(artifact.manifest, found, expected) if not c.equal] == []


@pytest.mark.parametrize("rows", [5, 130])
def test_equals_its_emulation(artifact: fp4rt.Artifact, rows: int) -> None:
    dims = sizes(artifact, {"M": rows, "N": 128, "K": 128})
    found, emulated = (called(artifact, device, dims, seed=8) for device in ("cuda", "emulator"))
    assert [str(c) for c in compare_outputs(artifact.manifest, found, emulated) if not c.equal] == []


def test_from_several_threads(artifact: fp4rt.Artifact) -> None:
    """Each thread has its own inputs and must get its own results."""
    kernel = artifact.load_kernel("cuda")
    dims = sizes(artifact, {"M": 384, "N": 256, "K": 512})
    inputs = [fp4rt.random_inputs(artifact.manifest, dims, seed=seed) for seed in range(4)]
    outputs = [unwritten(artifact, args) for args in inputs]
    reference = artifact.load_kernel("reference")
    expected = [reference(**deepcopy(args), **out) for args, out in zip(inputs, deepcopy(outputs), strict=True)]
    wrong: list[str] = []

    def work(index: int) -> None:
        for _ in range(5):  # copies, since an `inout` argument is overwritten
            found = kernel(**deepcopy(inputs[index]), **deepcopy(outputs[index]))
            wrong.extend(str(c) for c in compare_outputs(artifact.manifest, found, expected[index]) if not c.equal)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
