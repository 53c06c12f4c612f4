"""Times of calls whose launches begin before the end of those before them (`overlap`), beside calls that do not.

    python benchmarks/hopper_overlap.py compile     (where the compiler is installed)
    python benchmarks/hopper_overlap.py             (on a Hopper GPU, with torch)

Each figure is the median over replays, in turns, of CUDA graphs of several bound calls one after the other; weights and
activations change from call to call, twice as many bytes as L2 holds. `chain` calls are square, and each reads what the
one before wrote. Before the times, many calls in a row are compared, byte by byte, with calls that do not overlap.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
BUILD = HERE.parent.parent / "tests" / "gpu" / "build" / "hopper_overlap"
HOW = ("no", "early", "late")
# Kernel, M, N and K (0: the kernel has none).
CELLS = (
    ("weights", 1, 7168, 2048), ("weights", 16, 7168, 2048), ("weights", 16, 8192, 8192), ("weights", 16, 4096, 14336),
    ("weights", 64, 7168, 2048), ("weights", 64, 8192, 8192), ("weights", 1024, 4096, 4096), ("pairs", 256, 4096, 4096),
    ("pairs", 1024, 4096, 4096), ("rows", 64, 4096, 4096), ("rows", 1024, 4096, 4096), ("tokens", 256, 8192, 0),
    ("tokens", 4096, 8192, 0),
)  # fmt: skip
ROTATED, REPLAYS, LEAST_CALLS, COMPARED = 120 << 20, 15, 24, 200


def compile_all() -> None:
    """Compile each cell three times."""
    import fp4cc

    text = HERE.with_suffix(".fp4").read_text(encoding="utf-8")
    for kernel, m, n, k in CELLS:
        for how in HOW:
            folder = BUILD / f"{kernel}_{m}_{n}_{k}" / how
            folder.mkdir(parents=True, exist_ok=True)
            spec = folder / "spec.fp4"
            spec.write_text(f"{text}\nschedule {kernel} on sm_90a {{ overlap {how} }}\n", encoding="utf-8")
            dims = {"M": m, "N": n, **({"K": k} if k else {})}
            fp4cc.compile(spec, target="sm_90a", kernel=kernel, dims=dims).save(folder)
            print(f"{folder.relative_to(BUILD)}: compiled", flush=True)


if sys.argv[1:] == ["compile"]:
    compile_all()
    sys.exit()

import torch  # noqa: E402

import fp4rt  # noqa: E402


def quantized(rows: int, columns: int) -> fp4rt.Quantized:
    """Random nvfp4."""
    codes = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8, device="cuda")
    scales = torch.randint(0x28, 0x40, (-(-rows // 128) * 128 * columns // 16,), dtype=torch.uint8, device="cuda")
    return fp4rt.Quantized.from_parts(codes, scales, torch.full((), 0.0625, device="cuda"), "nvfp4", (rows, columns))


def inputs(kernel: str, m: int, n: int, k: int) -> dict[str, Any]:
    """Of one call."""
    if kernel == "tokens":
        return {"x": torch.randn(m, n, device="cuda").bfloat16()}
    x = quantized(m, k) if kernel == "pairs" else torch.randn(m, k, device="cuda").bfloat16()
    return {"x": x, "w": quantized(n, k)}


def size(value: Any) -> int:
    """Bytes of an argument."""
    if isinstance(value, fp4rt.Quantized):
        return int(value.codes.nbytes + value.scales.nbytes)
    return int(value.nbytes)


def raw(outputs: dict[str, Any]) -> list[torch.Tensor]:
    """The bytes of what a call returned."""
    found: list[torch.Tensor] = []
    for value in outputs.values():
        parts = [value.codes, value.scales] if isinstance(value, fp4rt.Quantized) else [value]
        found += [part.reshape(-1).view(torch.uint8).clone() for part in parts]
    return found


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


def microseconds(graphs: dict[str, torch.cuda.CUDAGraph], calls: int) -> dict[str, list[float]]:
    """The times of a call in each graph, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(REPLAYS):
        for name, graph in graphs.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            graph.replay()
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end) / calls * 1e3)
    return times


def loaded(folder: Path, kernel: str) -> dict[str, Any]:
    """The kernel, compiled in each way."""
    return {how: fp4rt.Artifact.load(folder / how / f"{kernel}.json").load_kernel("cuda") for how in HOW}


def same_bytes(kernels: dict[str, Any], pool: list[dict[str, Any]]) -> bool:
    """Whether calls in a row, the one right behind the other, give what calls give that wait for one another."""
    wanted = [raw(kernels["no"](**args)) for args in pool]
    for how in HOW[1:]:
        bound = [kernels[how].bind(**args) for args in pool]
        for i in range(COMPARED):
            bound[i % len(bound)]()
        graph_of(bound).replay()
        torch.cuda.synchronize()
        for each, expected in zip(bound, wanted, strict=True):
            if not all(map(torch.equal, raw(each.outputs), expected)):
                return False
    return True


def row(what: str, graphs: dict[str, torch.cuda.CUDAGraph], calls: int, right: bool) -> None:
    """A row of the table."""
    times = microseconds(graphs, calls)
    middle = {how: statistics.median(found) for how, found in times.items()}
    gains = [f"{(1 - middle[how] / middle['no']) * 100:+.1f} %" for how in HOW[1:]]
    shown = [f"{middle[how]:.2f}" for how in HOW]
    print(f"| {' | '.join([what, *shown, *gains, 'equal' if right else 'DIFFERS'])} |", flush=True)


def measure(kernel: str, m: int, n: int, k: int) -> None:
    """The rows of a cell: calls that share nothing and, of square ones, a chain."""
    kernels = loaded(BUILD / f"{kernel}_{m}_{n}_{k}", kernel)
    pool = [inputs(kernel, m, n, k)]
    distinct = max(2, min(64, -(-ROTATED // sum(map(size, pool[0].values())))))
    pool += [inputs(kernel, m, n, k) for _ in range(distinct - 1)]
    calls = -(-LEAST_CALLS // distinct) * distinct
    right = same_bytes(kernels, pool)
    bound = {how: [kernels[how].bind(**args) for args in pool] for how in HOW}
    graphs = {how: graph_of(each * (calls // distinct)) for how, each in bound.items()}
    of = "x".join(str(x) for x in (m, n, k) if x)
    row(f"{kernel} {of}", graphs, calls, right)
    if kernel == "weights" and n == k:
        chain(kernels, m, n, pool, of)


def chain(kernels: dict[str, Any], m: int, n: int, pool: list[dict[str, Any]], of: str) -> None:
    """Calls each of which reads what the one before wrote, back and forth between two buffers."""
    start = torch.randn(m, n, device="cuda").bfloat16()
    graphs: dict[str, torch.cuda.CUDAGraph] = {}
    ends: list[torch.Tensor] = []
    kept: list[Any] = []
    for how in HOW:
        x, y = start.clone(), torch.empty_like(start)
        bound = []
        for i in range(LEAST_CALLS):
            source, sink = (x, y) if i % 2 == 0 else (y, x)
            bound.append(kernels[how].bind(x=source, w=pool[i % len(pool)]["w"], out={"y": sink}))
        graphs[how] = graph_of(bound)
        x.copy_(start)
        graphs[how].replay()
        torch.cuda.synchronize()
        ends.append((x if LEAST_CALLS % 2 == 0 else y).clone())
        kept.append((x, y, bound))
    right = all(torch.equal(end.view(torch.uint8), ends[0].view(torch.uint8)) for end in ends[1:])
    row(f"chain {of}", graphs, LEAST_CALLS, right)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(torch.cuda.get_device_name())
    print("| calls | no, us | early, us | late, us | early gains | late gains | bytes |\n|---|---|---|---|---|---|---|")
    for cell in CELLS:
        measure(*cell)
