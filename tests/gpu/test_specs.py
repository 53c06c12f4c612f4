"""Specs compiled for Hopper (`compile_specs.py`), on silicon: equal to the reference and to their emulation."""

from __future__ import annotations

import threading
from itertools import product
from pathlib import Path

import pytest

import fp4rt
from fp4rt.compare import compare_outputs
from fp4rt.signature import complete_dims
from fp4rt.sizes import evaluate

pytestmark = pytest.mark.gpu

BUILD = Path(__file__).parent / "build"
SIZES = ({"M": 256, "N": 256, "K": 256}, {"M": 300, "N": 192, "K": 992}, {"M": 1, "N": 64, "K": 64},
         {"M": 1024, "N": 640, "K": 2048})  # fmt: skip


def artifacts() -> list[str]:
    """The names of what was compiled."""
    return sorted(path.stem for path in BUILD.glob("*.json"))


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


@pytest.mark.parametrize("wanted", SIZES, ids=lambda w: "x".join(map(str, w.values())))
def test_equals_the_reference(artifact: fp4rt.Artifact, wanted: dict[str, int]) -> None:
    args = fp4rt.random_inputs(artifact.manifest, sizes(artifact, wanted), seed=7)
    expected = artifact.load_kernel("reference")(**args)
    found = artifact.load_kernel("cuda")(**args)
    assert [str(c) for c in compare_outputs(artifact.manifest, found, expected) if not c.equal] == []


def test_equals_its_emulation(artifact: fp4rt.Artifact) -> None:
    args = fp4rt.random_inputs(artifact.manifest, sizes(artifact, {"M": 130, "N": 128, "K": 128}), seed=8)
    found, emulated = (artifact.load_kernel(device)(**args) for device in ("cuda", "emulator"))
    assert [str(c) for c in compare_outputs(artifact.manifest, found, emulated) if not c.equal] == []


def test_from_several_threads(artifact: fp4rt.Artifact) -> None:
    """Each thread has its own inputs and must get its own results."""
    kernel = artifact.load_kernel("cuda")
    dims = sizes(artifact, {"M": 384, "N": 256, "K": 512})
    calls = [fp4rt.random_inputs(artifact.manifest, dims, seed=seed) for seed in range(4)]
    reference = artifact.load_kernel("reference")
    expected = [reference(**args) for args in calls]
    wrong: list[str] = []

    def work(index: int) -> None:
        for _ in range(5):
            found = kernel(**calls[index])
            wrong.extend(str(c) for c in compare_outputs(artifact.manifest, found, expected[index]) if not c.equal)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
