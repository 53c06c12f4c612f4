"""Times of products of at most 16 rows by four-bit weights, beside cuBLAS bf16 and what the memory allows.

    python benchmarks/hopper_decode.py compile      (where the compiler is installed)
    python benchmarks/hopper_decode.py              (on a Hopper GPU, with torch and triton)

N and K of weights are known to the compiler, M is not. Each figure is the median over replays, in turns, of CUDA graphs
of several calls; every call of a graph takes other weights, twice as many bytes of them as L2 holds. `read` is a kernel
that only reads as many bytes, `copy` a copy that reads and writes as many in all. Errors are those against a product in
float64 of the dequantized weights.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve()
BUILD = HERE.parent.parent / "tests" / "gpu" / "build" / "hopper_decode"
SHAPES = ((8192, 8192), (28672, 4096), (4096, 14336), (7168, 2048))
ROWS = (1, 8, 16)
FORMATS = {"nvfp4": 16, "mxfp4": 32}
ROTATED, REPLAYS, LEAST_CALLS = 120 << 20, 25, 24
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def compile_all() -> None:
    """Compile the kernels for each shape."""
    import fp4cc

    for n, k in SHAPES:
        for fmt in FORMATS:
            spec = HERE.with_suffix(".fp4")
            artifact = fp4cc.compile(spec, target="sm_90a", kernel=f"{fmt}_decode", dims={"N": n, "K": k})
            artifact.save(BUILD / f"{n}x{k}")
            print(f"{fmt} {n} x {k}: compiled")


if sys.argv[1:] == ["compile"]:
    compile_all()
    sys.exit()

import torch  # noqa: E402
import triton  # noqa: E402
import triton.language as tl  # noqa: E402

import fp4rt  # noqa: E402


class Weights:
    """Random weights of a format, and what they are in float64."""

    def __init__(self, fmt: str, n: int, k: int) -> None:
        self.fmt, self.n, self.k, self.block = fmt, n, k, FORMATS[fmt]
        self.codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
        low, high = (0x28, 0x78) if fmt == "nvfp4" else (118, 132)
        self.scales = torch.randint(low, high, (n, k // self.block), dtype=torch.uint8, device="cuda")
        # blocked_128x4: atoms of 128 rows x 4 scales, row r at (r % 32) * 16 + r // 32 * 4.
        blocked = self.scales.view(n // 128, 4, 32, k // self.block // 4, 4).permute(0, 3, 2, 1, 4).contiguous()
        factor = torch.full((), 0.25, device="cuda") if fmt == "nvfp4" else None
        self.quantized = fp4rt.Quantized.from_parts(self.codes, blocked.view(-1), factor, fmt, (n, k))

    @property
    def bytes(self) -> int:
        """What a product reads of them."""
        return self.codes.numel() + self.scales.numel()

    def values(self) -> torch.Tensor:
        """The numbers."""
        table = torch.tensor([*E2M1, *(-x for x in E2M1)], dtype=torch.float64, device="cuda")
        codes = torch.stack([self.codes & 15, self.codes >> 4], -1).view(self.n, self.k)
        if self.fmt == "nvfp4":
            scales = self.scales.view(torch.float8_e4m3fn).to(torch.float64) * 0.25
        else:
            scales = torch.exp2(self.scales.to(torch.float64) - 127)
        return table[codes.long()] * scales.repeat_interleave(self.block, 1)


@triton.jit
def read_kernel(source, sink, count, BLOCK: tl.constexpr):
    """Read `count` words; what is written depends on all of them, and never is."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.sum(tl.load(source + at, mask=at < count, other=0), 0)
    tl.store(sink, total, mask=total == 0x12345678)


def graph_of(calls: Sequence[Callable[[], object]]) -> torch.cuda.CUDAGraph:
    """A graph of the calls one after the other."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def microseconds(peers: dict[str, list[Callable[[], object]]]) -> dict[str, float]:
    """The median time of a call of each peer; their graphs take turns."""
    graphs = {name: graph_of(calls) for name, calls in peers.items()}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(REPLAYS):
        for name, graph in graphs.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            graph.replay()
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end) / len(peers[name]) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def floors(size: int, count: int) -> dict[str, list[Callable[[], object]]]:
    """Calls that read `size` bytes, or read and write as many in all."""
    sink = torch.zeros(1, dtype=torch.int32, device="cuda")
    words = size // 4
    buffers = [torch.randint(0, 1 << 30, (words,), dtype=torch.int32, device="cuda") for _ in range(count)]

    def read(source: torch.Tensor) -> Callable[[], object]:
        return lambda: read_kernel[(-(-words // 8192),)](source, sink, words, BLOCK=8192, num_warps=8)

    def copy(source: torch.Tensor) -> Callable[[], object]:
        return lambda: source[: words // 2].copy_(source[words - words // 2 :])

    return {"read": [read(b) for b in buffers], "copy": [copy(b) for b in buffers]}


def measure(fmt: str, n: int, k: int) -> None:
    """Print the rows of a table for a format and a shape."""
    pool = [Weights(fmt, n, k)]
    distinct = max(2, -(-ROTATED // pool[0].bytes))
    pool += [Weights(fmt, n, k) for _ in range(distinct - 1)]
    count = -(-LEAST_CALLS // distinct) * distinct
    dense = [torch.randn(n, k, dtype=torch.bfloat16, device="cuda") for _ in range(max(2, -(-ROTATED // (2 * n * k))))]
    values = pool[0].values()
    kernel = fp4rt.Artifact.load(BUILD / f"{n}x{k}" / f"{fmt}_decode.json").load_kernel("cuda")
    for m in ROWS:
        x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
        y = torch.full((m, n), float("nan"), dtype=torch.bfloat16, device="cuda")
        kernel(x=x, w=pool[0].quantized, out={"y": y})
        wanted = x.double() @ values.T
        error = float((y.double() - wanted).norm() / wanted.norm())
        ours = [kernel.bind(x=x, w=w.quantized, out={"y": y}) for w in pool]
        theirs = [partial(torch.mm, x, w.T, out=y) for w in dense]
        peers: dict[str, list[Callable[[], object]]] = {
            "ours": [ours[i % distinct] for i in range(count)],
            "cuBLAS": [theirs[i % len(theirs)] for i in range(max(LEAST_CALLS, len(theirs)))],
            **floors(pool[0].bytes, distinct),
        }
        found = microseconds(peers)
        time, read, copy, cublas = (found[name] for name in ("ours", "read", "copy", "cuBLAS"))
        print(
            f"| {fmt} | {n} x {k} | {m} | {time:.1f} | {read:.1f} | {read / time:.0%} | {copy / time:.0%} | "
            f"{cublas:.1f} | {cublas / time:.2f} | {error:.1e} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    print(torch.cuda.get_device_name())
    print("| weights | N x K | M | us | read, us | of read | of copy | cuBLAS bf16, us | times faster | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for fmt in FORMATS:
        for n, k in SHAPES:
            measure(fmt, n, k)


if __name__ == "__main__":
    main()
