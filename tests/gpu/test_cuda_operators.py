"""Operators of torch and quantized tensors on a GPU: in place, compiled, captured, and where tensors are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fp4rt
import fp4rt.torch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def kernel(artifact: fp4rt.Artifact) -> fp4rt.Kernel:
    return artifact.load_kernel("cuda")


@pytest.fixture(scope="module")
def operator(kernel: fp4rt.Kernel) -> Any:
    return kernel.as_torch_op("fp4rt_gpu_tests::scale_shift")


def tensors(rows: int = 300, columns: int = 160) -> tuple[Any, Any]:
    return torch.randn(rows, columns, device="cuda"), torch.full((), 0.5, device="cuda")


def expected(x: Any, shift: Any, gain: float = 2.0) -> Any:
    return torch.add(torch.mul(x, gain), shift)


def test_opcheck(operator: Any) -> None:
    results = torch.library.opcheck(operator.overload, tensors())
    assert set(results.values()) == {"SUCCESS"}


def test_eager_calls_of_many_sizes(operator: Any) -> None:
    for rows in (64, 300, 64, 8, 300):
        x, shift = tensors(rows)
        out = operator(x=x, shift=shift, gain=3.0)
        assert out["y"].device == x.device and torch.equal(out["y"], expected(x, shift, 3.0))


def test_nothing_waits_and_the_current_stream_is_used(operator: Any) -> None:
    x, shift = tensors()
    operator(x=x, shift=shift)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(1_000_000_000)
        x.fill_(4.0)
        y = operator(x=x, shift=shift)["y"]
        assert not side.query()
    side.synchronize()
    assert (y == 8.5).all()


def test_a_cuda_graph(operator: Any) -> None:
    x, shift = tensors()
    operator(x=x, shift=shift)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = operator(x=x, shift=shift)["y"]
    for value in (1.0, -2.0):
        x.fill_(value)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(y, expected(x, shift))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled(operator: Any, mode: str) -> None:
    compiled = torch.compile(lambda x, s: operator(x=x * 2, shift=s)["y"].relu() + 1, fullgraph=True, mode=mode)
    for rows in (64, 64, 64, 300):
        x, shift = tensors(rows)
        assert torch.equal(compiled(x, shift), expected(x * 2, shift).relu() + 1)


def test_tensors_on_the_cpu_run_on_the_reference(kernel: fp4rt.Kernel, operator: Any) -> None:
    x, shift = torch.randn(20, 36), torch.tensor(0.5)
    for call in (kernel, operator):
        assert torch.equal(call(x=x, shift=shift)["y"], expected(x, shift))
    with pytest.raises(fp4rt.ArgumentError, match="FP6109: 'shift' is on the host"):
        operator(x=x.cuda(), shift=shift)


def test_quantized_tensors_stay_on_the_gpu() -> None:
    x = torch.randn(130, 96, device="cuda")
    q, n = fp4rt.quantize(x, "nvfp4"), fp4rt.quantize(x.cpu(), "nvfp4")
    assert q.codes.is_cuda and q.scales.is_cuda and q.tensor_scale.is_cuda
    assert torch.equal(q.codes.cpu(), n.codes) and torch.equal(q.scales.cpu(), n.scales)
    assert torch.equal(fp4rt.dequantize(q).cpu(), fp4rt.dequantize(n))
    part, wanted = q[2:130, 16:64], n[2:130, 16:64]
    assert torch.equal(part.codes.cpu(), wanted.codes) and torch.equal(part.scales.cpu(), wanted.scales)
    assert q.to("cpu").codes.device.type == "cpu" and n.to("cuda").scales.is_cuda
    rows = q.scale_grid()[0]
    assert torch.equal(fp4rt.Quantized.from_linear(q.codes, rows, q.tensor_scale, "nvfp4", q.shape).scales, q.scales)
