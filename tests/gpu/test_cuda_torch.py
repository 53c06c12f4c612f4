"""The cuda device with torch tensors: zero copy, streams, graphs, no allocation, no synchronization."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest
import torch

import fp4rt
from fp4rt.cuda import tensormaps
from fp4rt.cuda.driver import context, native

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def kernel(artifact: fp4rt.Artifact) -> fp4rt.Kernel:
    return artifact.load_kernel("cuda")


def tensors(rows: int = 300, columns: int = 160) -> tuple[Any, Any]:
    return torch.randn(rows, columns, device="cuda"), torch.full((), 0.5, device="cuda")


def expected(x: Any, shift: Any, gain: float) -> Any:
    return torch.add(torch.mul(x, gain), shift)


def test_outputs_are_tensors(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    out = kernel(x=x, shift=shift, gain=3.0)
    assert out["y"].device == x.device
    assert torch.equal(out["y"], expected(x, shift, 3.0))
    assert out["count"].item() == 5 * 5


def test_given_outputs_are_written_in_place(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    y, count = torch.full_like(x, float("nan")), torch.full((), -1, dtype=torch.int32, device="cuda")
    out = kernel(x=x, shift=shift, gain=3.0, out={"y": y, "count": count})
    assert out["y"] is y and out["count"] is count
    assert torch.equal(y, expected(x, shift, 3.0))


def test_a_call_with_out_allocates_nothing(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    out = {"y": torch.empty_like(x), "count": torch.empty((), dtype=torch.int32, device="cuda")}
    kernel(x=x, shift=shift, out=out)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    free = torch.cuda.mem_get_info()[0]
    for _ in range(10):
        kernel(x=x, shift=shift, out=out)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    assert torch.cuda.mem_get_info()[0] == free


def test_nothing_waits(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    kernel(x=x, shift=shift)
    bound = kernel.bind(x=x, shift=shift)
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second
    out = kernel(x=x, shift=shift)
    bound()
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert torch.equal(out["y"], expected(x, shift, 2.0))


def test_runs_on_torchs_current_stream(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    bound = kernel.bind(x=x, shift=shift)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        x.fill_(4.0)
        once = kernel(x=x, shift=shift)["y"]
        again = bound()["y"]
    side.synchronize()
    assert (once == 8.5).all() and (again == 8.5).all()


@pytest.mark.parametrize("as_address", [False, True])
def test_runs_on_a_given_stream(kernel: fp4rt.Kernel, as_address: bool) -> None:
    x, shift = tensors()
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        x.fill_(4.0)
    out = kernel(x=x, shift=shift, stream=side.cuda_stream if as_address else side)
    side.synchronize()
    assert (out["y"] == 8.5).all()


def test_graph_capture(kernel: fp4rt.Kernel) -> None:
    x, shift = tensors()
    out = {"y": torch.empty_like(x), "count": torch.empty((), dtype=torch.int32, device="cuda")}
    bound = kernel.bind(x=x, shift=shift, gain=2.0, out=out)
    second = {"y": torch.empty_like(x), "count": torch.empty((), dtype=torch.int32, device="cuda")}
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bound()
        kernel(x=out["y"], shift=shift, gain=3.0, out=second)
    for value in (1.0, -2.0):
        x.fill_(value)
        shift.fill_(value / 4)
        graph.replay()
        torch.cuda.synchronize()
        first = expected(x, shift, 2.0)
        assert torch.equal(out["y"], first)
        assert torch.equal(second["y"], expected(first, shift, 3.0))
        assert out["count"].item() == second["count"].item() == 25  # zeroed by each replay


def test_first_use_inside_a_capture(artifact: fp4rt.Artifact) -> None:
    """A kernel loaded before, never run: its code is on the device already, so capturing it works."""
    fresh = artifact.load_kernel("cuda")
    x, shift = tensors(64, 64)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = fresh(x=x, shift=shift)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out["y"], expected(x, shift, 2.0))


def test_threads_with_streams_of_their_own(kernel: fp4rt.Kernel) -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(100):
                x = torch.full((64 + seed, 32 + 4 * (i % 5)), float(i), device="cuda")
                shift = torch.full((), float(seed), device="cuda")
                if not (kernel(x=x, shift=shift)["y"] == 2 * i + seed).all():
                    failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_misaligned_slice_is_named(kernel: fp4rt.Kernel) -> None:
    flat = torch.zeros(64 * 32 + 1, device="cuda")
    with pytest.raises(fp4rt.ArgumentError, match=r"FP6106: 'x' lies at .* multiple of 16"):
        kernel(x=flat[1:].view(64, 32), shift=torch.zeros((), device="cuda"))


def test_a_strided_tensor_is_named(kernel: fp4rt.Kernel) -> None:
    x = torch.zeros(32, 64, device="cuda").t()
    with pytest.raises(fp4rt.ArgumentError, match=r"FP6106: 'x' is not contiguous(.|\n)*x\.contiguous\(\)"):
        kernel(x=x, shift=torch.zeros((), device="cuda"))


def test_a_host_tensor_is_named(kernel: fp4rt.Kernel) -> None:
    with pytest.raises(fp4rt.ArgumentError, match="FP6109: 'shift' is on the host"):
        kernel(x=torch.zeros(64, 32, device="cuda"), shift=torch.zeros(()))


def test_an_output_over_an_input_is_named(kernel: fp4rt.Kernel) -> None:
    x = torch.zeros(64, 32, device="cuda")
    with pytest.raises(fp4rt.ArgumentError, match="FP6107: output 'y' overlaps 'x'"):
        kernel(x=x, shift=torch.zeros((), device="cuda"), out={"y": x})


def test_a_map_with_a_new_address_is_the_map_of_that_address(kernel: fp4rt.Kernel) -> None:
    """What cuTensorMapReplaceAddress makes of a map is what cuTensorMapEncodeTiled gives."""
    x = torch.zeros(1 << 20, device="cuda")
    here, there = x.data_ptr(), x.data_ptr() + 16 * 12345
    with context(None).current():
        for m in kernel.resolve({"M": 300, "N": 160}).tensor_maps:
            memory = torch.zeros(256, dtype=torch.uint8)
            place = memory.data_ptr() + -memory.data_ptr() % 64
            ctypes.memmove(place, tensormaps.encode(m, here), 128)
            assert native().replace_address(place, there) == 0
            assert ctypes.string_at(place, 128) == tensormaps.encode(m, there)


def test_fresh_buffers_each_time(kernel: fp4rt.Kernel) -> None:
    """Calls like one that went through before, on ever other memory, with outputs given and without, and from many
    streams."""
    streams = [torch.cuda.Stream() for _ in range(3)]
    held: list[Any] = []
    for i in range(60):
        x, shift = torch.randn(100, 60 + 4 * (i % 2), device="cuda"), torch.full((), float(i), device="cuda")
        out = {"y": torch.empty_like(x), "count": torch.empty((), dtype=torch.int32, device="cuda")}
        torch.cuda.synchronize()
        stream = streams[i % 3] if i % 2 else None
        found = kernel(x=x, shift=shift, gain=i, out=out if i % 3 else None, stream=stream)
        held.append((x, shift, float(i), found))
    torch.cuda.synchronize()
    for x, shift, gain, found in held:
        assert torch.equal(found["y"], expected(x, shift, gain))
        assert found["count"].item() == 2 * -(-x.shape[1] // 32)
