"""Lists of problems on silicon (`compile_specs.py lists.fp4`): one launch, equal to the reference and to calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp4rt
from fp4rt.compare import compare_outputs
from fp4rt.resolve import resolve

pytestmark = pytest.mark.gpu

BUILD = Path(__file__).parent / "build" / "lists"
#: (M, N, K) of the problems: few tiles and many, one step along K and many, nothing at all.
LISTS = {
    "few": [(40, 96, 288), (0, 64, 64), (300, 192, 1312), (1, 64, 0), (7, 0, 32)],
    "many": [(1 + 13 * i % 260, 32 * (1 + i % 9), 32 * (i % 11)) for i in range(150)],
    "long": [(80, 1024, 4096), (176, 1024, 4096), (64, 512, 7168), (248, 1024, 512)],
}


def artifacts() -> list[str]:
    return sorted(path.stem for path in BUILD.glob("*.json"))


@pytest.fixture(params=artifacts(), scope="module")
def artifact(request: pytest.FixtureRequest) -> fp4rt.Artifact:
    return fp4rt.Artifact.load(BUILD / f"{request.param}.json")


def inputs(artifact: fp4rt.Artifact, name: str) -> list[dict[str, Any]]:
    dynamic = {d.name for d in artifact.manifest.kernel.dims if d.value is None and d.expr is None}
    wanted = [{"M": m, "N": n, "K": k, "E": 5} for m, n, k in LISTS[name]]
    dims = [{dim: size for dim, size in each.items() if dim in dynamic} for each in wanted]
    dims = [each for each in dims if taken(artifact, each)]
    return [fp4rt.random_inputs(artifact.manifest, each, seed=i) for i, each in enumerate(dims)]


def taken(artifact: fp4rt.Artifact, dims: dict[str, int]) -> bool:
    """Whether a call may have these sizes: some kernels take no empty rows."""
    known = {d.name: d.value for d in artifact.manifest.kernel.dims if d.value is not None}
    try:
        resolve(artifact.manifest, {**known, **dims})
    except fp4rt.ConstraintError:
        return dims["N"] > 0
    return True


def test_something_was_compiled() -> None:
    assert artifacts(), "run `python tests/gpu/compile_specs.py` where the compiler is installed"


@pytest.mark.parametrize("name", LISTS)
def test_equals_the_reference_and_calls(artifact: fp4rt.Artifact, name: str) -> None:
    kernel, reference = artifact.load_kernel("cuda"), artifact.load_kernel("reference")
    found = kernel.bind_many(inputs(artifact, name))
    assert found.launches == len(artifact.manifest.plan.launches)
    expected = (reference(**args) for args in inputs(artifact, name))
    called = (kernel(**args) for args in inputs(artifact, name))
    for number, (one, *others) in enumerate(zip(found(), expected, called, strict=True)):
        for other in others:
            wrong = [str(c) for c in compare_outputs(artifact.manifest, one, other) if not c.equal]
            assert wrong == [], number


def test_a_bound_list_in_a_graph(artifact: fp4rt.Artifact) -> None:
    """Captured and replayed on inputs that have changed since."""
    torch = pytest.importorskip("torch")
    if any(a.direction == "inout" for a in artifact.manifest.kernel.args):
        return  # it would add up what the capture's warm-up has left
    kernel = artifact.load_kernel("cuda")
    dtypes = {a.name: str(a.dtype) for a in artifact.manifest.kernel.args}
    given = [
        {name: on_gpu(torch, value, dtypes[name]) for name, value in args.items()} for args in inputs(artifact, "long")
    ]
    bound = kernel.bind_many(given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bound()
    with pytest.raises(fp4rt.DeviceError, match="FP6324"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        kernel.bind_many(given)
    for args in given:
        for value in args.values():
            if not isinstance(value, fp4rt.Quantized) and value.dtype in (torch.bfloat16, torch.float32):
                value.neg_()
    graph.replay()
    torch.cuda.synchronize()
    for number, (args, outputs) in enumerate(zip(given, bound.outputs, strict=True)):
        wrong = [str(c) for c in compare_outputs(artifact.manifest, outputs, kernel(**args)) if not c.equal]
        assert wrong == [], number


def on_gpu(torch: Any, value: Any, dtype: str) -> Any:
    """An argument as tensors on the GPU; numpy has codes where it has no type."""
    if isinstance(value, fp4rt.Quantized):
        return value.to("cuda")
    types = {"bf16": (np.int16, torch.bfloat16), "e4m3": (np.uint8, torch.float8_e4m3fn)}
    held, wanted = types.get(dtype, (value.dtype, None))
    tensor = torch.from_numpy(np.ascontiguousarray(value).view(held)).cuda()
    return tensor if wanted is None else tensor.view(wanted)
