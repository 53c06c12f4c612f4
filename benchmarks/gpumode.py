"""GPU MODE's NVFP4 problems (examples/gpumode) on sm_100a: what the model says of the plan that each call takes.

    python benchmarks/gpumode.py            a table for benchmarks/trace.md; needs no GPU

`floor` is the roofline: all bytes once at the bandwidth of DRAM, or all products at the tensor cores' full clock.
`fixed` is what no kernel is without: a launch, the start of a CTA, and a first load by TMA from DRAM, each a parameter
of fp4rt/timing/parameters.toml. `model` is the closed form of `fp4cc explain`. The last column is the same for a
configuration of NVIDIA's example of such kernels (CUTLASS, CuTe DSL, dense_blockscaled_gemm_persistent.py): tiles of
256 x 256, clusters of 2 x 1. There is none where tensor memory does not hold its accumulators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.request import Request
from fp4cc.driver.spec import Spec, spec_at
from fp4cc.driver.stages import lower_kernels
from fp4cc.explain.plans import label
from fp4cc.explain.report import call_seconds, roofline_seconds
from fp4cc.explain.work import choose
from fp4rt.timing import values

TARGET = "sm_100a"
FOLDER = Path(__file__).resolve().parents[1] / "examples" / "gpumode"
#: The sizes that the problems give, by spec.
PROBLEMS: Mapping[str, tuple[Mapping[str, int], ...]] = {
    name: tuple(dict(zip(dims, sizes, strict=True)) for sizes in calls)
    for name, dims, calls in (
        ("gemv", "MKL", ((7168, 16384, 1), (4096, 7168, 8), (7168, 2048, 4))),
        ("gemm", "MNK", ((128, 7168, 16384), (128, 4096, 7168), (128, 7168, 2048))),
        ("dual_gemm", "MNK", ((256, 4096, 7168), (512, 4096, 7168), (256, 3072, 4096), (512, 3072, 7168))),
    )
}
EXAMPLE = "\nschedule {} on sm_100a {{ tile 256 x 256 x 256; cluster 2 x 1 }}\n"
#: What the fixed part of a call is made of: seconds, and clocks.
FIXED_SECONDS, FIXED_CLOCKS = ("launch_seconds",), ("start", "tma_issue", "tma_latency", "dram_latency")
#: How much slower than floor and fixed part together a call shall be at most.
WANTED = 1.25


@dataclass(frozen=True, slots=True)
class Row:
    """A call: times in seconds; `example` is None where NVIDIA's configuration does not serve it."""

    name: str
    sizes: Mapping[str, int]
    plan: str
    floor: float
    fixed: float
    model: float
    example: float | None

    @property
    def ratio(self) -> float:
        """The predicted time by the floor and the fixed part."""
        return self.model / (self.floor + self.fixed)


def fixed_seconds() -> float:
    """What every call takes beside its work."""
    found = values(TARGET)
    clocks = sum(found[name] for name in FIXED_CLOCKS)
    return sum(found[name] for name in FIXED_SECONDS) + clocks / (found["base_clock_ghz"] * 1e9)


def rows() -> Iterator[Row]:
    """Each call of each problem."""
    for name, calls in PROBLEMS.items():
        spec = spec_at(str(FOLDER / f"{name}.fp4"))
        for sizes in calls:
            plan, floor, model = _modeled(spec, name, sizes)
            try:
                example = _modeled(replace(spec, text=spec.text + EXAMPLE.format(name)), name, sizes)[2]
            except DiagnosticError:
                example = None
            yield Row(name, sizes, plan, floor, fixed_seconds(), model, example)


def _modeled(spec: Spec, name: str, sizes: Mapping[str, int]) -> tuple[str, float, float]:
    """The plan of a call in words, its floor and its time in the model."""
    lowered, _ = lower_kernels(Request(spec, TARGET, sizes, name))
    chosen = choose(lowered[0], {})
    time = call_seconds(chosen.plan, chosen.sizes)
    assert time is not None
    return label(chosen.plan, chosen.sizes), roofline_seconds(chosen.plan, chosen.sizes), time


def main() -> None:
    """Prints the table."""
    found = values(TARGET)
    parts = [f"{name} {found[name] * 1e6:.2f} us" for name in FIXED_SECONDS]
    print(f"fixed: {', '.join([*parts, *(f'{name} {found[name]:.0f} clk' for name in FIXED_CLOCKS)])}\n")
    print("| problem | sizes | plan | floor | fixed | model | / (floor + fixed) | NVIDIA's example |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows():
        sizes = " x ".join(str(size) for size in row.sizes.values())
        example = "-" if row.example is None else f"{row.example * 1e6:.2f}"
        times = " | ".join(f"{seconds * 1e6:.2f}" for seconds in (row.floor, row.fixed, row.model))
        print(f"| {row.name} | {sizes} | {row.plan} | {times} | {row.ratio:.2f} | {example} |")


if __name__ == "__main__":
    main()
