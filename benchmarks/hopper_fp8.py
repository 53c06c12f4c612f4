"""Times of FP8 products with `accumulate = fast` compiled for sm_90a, beside torch._scaled_mm and cuBLAS bf16.

    python tests/gpu/compile_specs.py benchmarks/hopper_fp8.fp4     (where the compiler is installed)
    python benchmarks/hopper_fp8.py [ROWS ..] [--build FOLDER]

It needs a Hopper GPU and torch. Each kernel takes turns with each peer alone, as in hopper_weights.py; a ratio is the
median over the passes of a kernel's time by the peer's of the same pass, with the range of the middle half. Weights
rotate past twice the L2. The error is the largest difference from float64 by the largest result, of the kernel and of
each peer. A peer that refuses the operands is listed with its error.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hopper_weights import PASSES, ROTATED, graph_of, in_turns

import fp4rt

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_fp8"
SHAPES = ((8192, 8192), (28672, 4096), (4096, 14336), (7168, 2048))
ROWS = (16, 64, 128, 1024, 4096, 8192)

Pair = tuple[torch.Tensor, torch.Tensor]


def operand(rows: int, columns: int, grid: tuple[int, int]) -> Pair:
    """Normal numbers in e4m3, and f32 scales between 2^-8 and 2^-6, one for each block of `grid`."""
    codes = torch.randn(rows, columns, device="cuda").to(torch.float8_e4m3fn)
    count = (-(-rows // grid[0]), -(-columns // grid[1]))
    return codes, torch.exp2(-6 - 2 * torch.rand(*count, device="cuda"))


def decoded(pair: Pair, grid: tuple[int, int]) -> torch.Tensor:
    """The operand as float64."""
    codes, scales = pair
    spread = scales.double().repeat_interleave(grid[0], 0).repeat_interleave(grid[1], 1)
    return codes.double() * spread[: codes.shape[0], : codes.shape[1]]


def peers(x: Pair, ws: Sequence[Pair], rows: bool, y: torch.Tensor) -> dict[str, list[Callable[[], object]]]:
    """The calls of each peer. Of blocks torch takes the activations' scales with the rows nearest."""
    a, sa = x
    sa = sa if rows else sa.T.contiguous().T

    def scaled(w: Pair, fast: bool) -> torch.Tensor:
        return torch._scaled_mm(a, w[0].T, sa, w[1].T, out_dtype=torch.bfloat16, use_fast_accum=fast)

    wide = [torch.randn(w.shape, device="cuda").bfloat16() for w, _ in ws[: max(1, len(ws) // 2)]]
    left = a.bfloat16()
    calls: dict[str, list[Callable[[], object]]] = {
        "_scaled_mm": [lambda w=w: scaled(w, False) for w in ws],
        "cuBLAS bf16": [lambda w=w: torch.mm(left, w.T, out=y) for w in wide],
    }
    if rows:
        calls["_scaled_mm, fast"] = [lambda w=w: scaled(w, True) for w in ws]
    return calls


def cell(kernels: dict[str, Any], m: int, n: int, k: int, rows: bool) -> None:
    """Print a row for each kernel and peer at one size."""
    grids = ((1, k), (1, k)) if rows else ((1, 128), (128, 128))
    x, ws = operand(m, k, grids[0]), [operand(n, k, grids[1]) for _ in range(-(-ROTATED // (n * k)))]
    y = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
    sample = torch.randperm(m, device="cuda")[:64]
    exact = decoded(x, grids[0])[sample] @ decoded(ws[0], grids[1]).T
    theirs: dict[str, tuple[torch.cuda.CUDAGraph, float | None]] = {}
    others_calls = peers(x, ws, rows, y)  # a graph does not keep what it reads
    for name, calls in others_calls.items():
        try:
            made = calls[0]()
            theirs[name] = (graph_of(calls), _error(made, sample, exact) if "scaled" in name else None)
        except (RuntimeError, ValueError) as error:
            print(f"{name} at {m} x {n} x {k}: {str(error).splitlines()[0]}", flush=True)
    formats = ("fp8_token", "fp8_token") if rows else ("ds_act", "ds_weight")
    for name, kernel in kernels.items():
        a, *bs = (
            fp4rt.Quantized.from_parts(codes.view(torch.uint8), scales.flatten(), None, fmt, tuple(codes.shape))
            for (codes, scales), fmt in zip((x, *ws), (formats[0], *[formats[1]] * len(ws)), strict=True)
        )
        calls = [kernel.bind(x=a, w=w, out={"y": y}) for w in bs]
        y.zero_()
        calls[0]()
        error, graph = _error(y, sample, exact), graph_of(calls)
        for peer, (other, its) in theirs.items():
            mine, others = in_turns(graph, other)
            ratios = sorted(a / b for a, b in zip(mine, others, strict=True))
            time = statistics.median(mine)
            row = (f"{n} x {k}", m, name, f"{time:.1f}", f"{2e-6 * m * n * k / time:.0f}", f"{error:.1e}", peer,
                   f"{statistics.median(others):.1f}", "" if its is None else f"{its:.1e}",
                   f"{statistics.median(ratios):.3f}",
                   f"{ratios[PASSES // 4]:.3f}-{ratios[-1 - PASSES // 4]:.3f}")  # fmt: skip
            print("|", " | ".join(map(str, row)), "|", flush=True)


def _error(y: Any, sample: torch.Tensor, exact: torch.Tensor) -> float:
    torch.cuda.synchronize()
    return float((y[sample].double() - exact).abs().max() / exact.abs().max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--build", type=Path, default=BUILD)
    given = parser.parse_args()
    kernels = {path.stem: fp4rt.Artifact.load(path).load_kernel("cuda") for path in sorted(given.build.glob("*.json"))}
    print(torch.cuda.get_device_name())
    titles = ("N x K", "M", "kernel", "us", "TFLOP/s", "error", "peer", "its us", "its error", "ratio", "middle half")
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for n, k in SHAPES:
        for m in given.rows:
            for rows in (True, False):
                cell({name: each for name, each in kernels.items() if name.startswith("rows") == rows}, m, n, k, rows)


if __name__ == "__main__":
    main()
