"""Times of products of two operands with block scales on sm_90a, beside cuBLAS bf16. Needs a Hopper GPU and torch.

    python tests/gpu/compile_specs.py benchmarks/hopper_pairs.fp4     (where the compiler is installed)
    python benchmarks/hopper_pairs.py [ROWS ..] [--build FOLDER] [--only NAME ..]

All launches of a call are in the timed graph, also the one that converts the activations. As `hopper_weights.py` does
it: each kernel takes turns with `torch.mm` alone, weights rotate past twice the L2, a ratio is the median over the
passes of a kernel's time by cuBLAS's of the same pass, with the range of the middle half. Calls of a kernel share one
workspace, as layers that run one after the other can. The error is the largest difference from float64 on dequantized
operands, by the largest result, on 64 rows.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hopper_weights import PASSES, ROTATED, SHAPES, VALUES, Call, graph_of, in_turns

import fp4rt

BUILD = Path(__file__).resolve().parent.parent / "tests" / "gpu" / "build" / "hopper_pairs"
ROWS = (128, 1024, 4096)
#: Elements of a block, and the codes of its scales: about 2^-4 to 4.
BLOCKS = {"nvfp4": (16, 0x18, 0x48), "mxfp4": (32, 123, 130), "mxfp8_e4m3": (32, 123, 130)}

Parts = tuple[torch.Tensor, torch.Tensor]


def operand(fmt: str, rows: int, k: int) -> Parts:
    """Random codes, none of them a NaN, and scales in blocked_128x4."""
    block, low, high = BLOCKS[fmt]
    if fmt == "mxfp8_e4m3":
        codes = torch.randint(0, 0x60, (rows, k), dtype=torch.uint8, device="cuda")
        codes |= torch.randint(0, 2, (rows, k), dtype=torch.uint8, device="cuda") << 7
    else:
        codes = torch.randint(0, 256, (rows, k // 2), dtype=torch.uint8, device="cuda")
    return codes, torch.randint(low, high, (rows * k // block,), dtype=torch.uint8, device="cuda")


def dequantized(fmt: str, parts: Parts, rows: torch.Tensor) -> torch.Tensor:
    """Some rows as float64. Scales lie in atoms of 128 rows x 4 (NVIDIA, cuBLAS, block scaling factors layout)."""
    codes, scales = parts
    codes, size = codes[rows], BLOCKS[fmt][0]
    if fmt == "mxfp8_e4m3":
        elements = codes.view(torch.float8_e4m3fn).double()
    else:
        table = torch.tensor([*VALUES, *(-value for value in VALUES)], dtype=torch.float64, device="cuda")
        elements = table[torch.stack((codes & 15, codes >> 4), -1).long()].reshape(len(rows), -1)
    blocks = elements.shape[1] // size
    row, block = rows[:, None], torch.arange(blocks, device="cuda")[None]
    place = (row // 128 * (blocks // 4) + block // 4) * 512 + row % 32 * 16 + row // 32 % 4 * 4 + block % 4
    of_block = scales[place]
    factors = of_block.view(torch.float8_e4m3fn).double() if fmt == "nvfp4" else torch.exp2(of_block.double() - 127)
    return (elements.reshape(len(rows), blocks, size) * factors[..., None]).reshape(len(rows), -1)


def quantized(fmt: str, parts: Parts, k: int) -> fp4rt.Quantized:
    """The parts as an argument."""
    one = torch.ones((), device="cuda") if fmt == "nvfp4" else None
    return fp4rt.Quantized.from_parts(*parts, one, fmt, (parts[0].shape[0], k))


def cell(kernels: Mapping[str, Any], formats: Mapping[str, str], m: int, n: int, k: int) -> None:
    """Print a row for each kernel at one size."""
    plain = [torch.randn(n, k, dtype=torch.bfloat16, device="cuda") for _ in range(max(1, -(-ROTATED // (n * k * 2))))]
    x, y = (
        torch.randn(m, k, dtype=torch.bfloat16, device="cuda"),
        torch.empty(m, n, dtype=torch.bfloat16, device="cuda"),
    )
    theirs = graph_of([lambda w=w: torch.mm(x, w.T, out=y) for w in plain])
    rows = torch.randperm(m, device="cuda")[:64]
    for name, kernel in kernels.items():
        fmt = formats[name]
        left = operand(fmt, m, k)
        bytes_ = n * k // (1 if fmt == "mxfp8_e4m3" else 2)
        weights = [operand(fmt, n, k) for _ in range(-(-ROTATED // bytes_))]
        given = quantized(fmt, left, k)
        size = kernel.workspace_size(M=m, N=n, K=k)
        scratch = torch.empty(size, dtype=torch.uint8, device="cuda") if size else None
        calls: list[Call] = [
            kernel.bind(x=given, w=quantized(fmt, w, k), out={"y": y}, workspace=scratch) for w in weights
        ]
        y.zero_()
        calls[0]()
        torch.cuda.synchronize()
        exact = dequantized(fmt, left, rows) @ dequantized(fmt, weights[0], torch.arange(n, device="cuda")).T
        error = float((y[rows].double() - exact).abs().max() / exact.abs().max())
        ours, others = in_turns(graph_of(calls), theirs)
        ratios = sorted(mine / other for mine, other in zip(ours, others, strict=True))
        middle = f"{ratios[PASSES // 4]:.3f}-{ratios[-1 - PASSES // 4]:.3f}"
        time, other = statistics.median(ours), statistics.median(others)
        row = (f"{n} x {k}", m, name, f"{time:.1f}", f"{2e-6 * m * n * k / time:.0f}", f"{other:.1f}",
               f"{statistics.median(ratios):.3f}", middle, f"{error:.1e}")  # fmt: skip
        print("|", " | ".join(map(str, row)), "|", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=ROWS)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    artifacts = {path.stem: fp4rt.Artifact.load(path) for path in sorted(given.build.glob("*.json"))}
    kept = {name: found for name, found in artifacts.items() if not given.only or name in given.only}
    formats = {name: str(getattr(found.manifest.kernel.args[0].dtype, "name", "")) for name, found in kept.items()}
    kernels = {name: found.load_kernel("cuda") for name, found in kept.items()}
    print(torch.cuda.get_device_name())
    titles = ("N x K", "M", "kernel", "us", "TFLOP/s", "cuBLAS bf16, us", "ratio", "middle half", "error")
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for n, k in SHAPES:
        for m in given.rows:
            cell(kernels, formats, m, n, k)


if __name__ == "__main__":
    main()
