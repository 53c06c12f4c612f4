"""GPU MODE's NVFP4 problems (examples/gpumode) on sm_100a: what the model says of the plan that each call takes.

    python benchmarks/gpumode.py            tables for benchmarks/trace.md; needs no GPU

`floor` is the roofline: all bytes once at the bandwidth of DRAM, or all products at the tensor cores' full clock.
`fixed` is what no kernel is without: a launch, the start of a CTA, and a first load by TMA from DRAM, each a parameter
of fp4rt/timing/parameters.toml. `model` is the closed form of `fp4cc explain`. The last column is the same for a
configuration of NVIDIA's example of such kernels (CUTLASS, CuTe DSL, dense_blockscaled_gemm_persistent.py): tiles of
256 x 256, clusters of 2 x 1. There is none where tensor memory does not hold its accumulators.

The group GEMM is a list of problems in one launch: its floor is the sum of theirs, its time that of the clusters that
end last, by the same closed form; `one by one` is the sum of the calls'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fp4cc.codegen.manifest import manifest
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.request import Request
from fp4cc.driver.spec import Spec, spec_at
from fp4cc.driver.stages import lower_kernels
from fp4cc.explain.gemm import GemmFigures
from fp4cc.explain.plans import label
from fp4cc.explain.report import call_seconds, figures, roofline_seconds
from fp4cc.explain.roofline import LAUNCH, estimate
from fp4cc.explain.work import choose
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.targets import TARGETS
from fp4rt.listing import shares
from fp4rt.sizes import evaluate
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
#: The groups of the group GEMM: M of each, and N and K, which all of a list have.
LISTS: tuple[tuple[tuple[int, ...], int, int], ...] = (
    ((80, 176, 128, 72, 64, 248, 96, 160), 4096, 7168),
    ((40, 76, 168, 72, 164, 148, 196, 160), 7168, 2048),
    ((192, 320), 3072, 4096),
    ((128, 384), 4096, 1536),
)
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


@dataclass(frozen=True, slots=True)
class ListRow:
    """A list of problems in one launch: times in seconds; `floor` is the sum of those of the problems."""

    problems: tuple[Mapping[str, int], ...]
    plan: str
    clusters: int
    floor: float
    fixed: float
    model: float
    loop: float

    @property
    def ratio(self) -> float:
        """The predicted time by the floor and the fixed part."""
        return self.model / (self.floor + self.fixed)


def lists() -> Iterator[ListRow]:
    """Each list of the group GEMM, with calls one by one beside it (`loop`)."""
    spec = spec_at(str(FOLDER / "group_gemm.fp4"))
    plan = lower_kernels(Request(spec, TARGET, {}, "group_gemm", 1, many=True))[0][0]
    for rows_of_groups, n, k in LISTS:
        problems = tuple({"M": m, "N": n, "K": k} for m in rows_of_groups)
        calls = [call_seconds(plan, sizes) for sizes in problems]
        clusters, seconds = _list_seconds(plan, problems)
        floor = sum(roofline_seconds(plan, sizes) for sizes in problems)
        words = label(plan, problems[0])
        found = max(seconds, LAUNCH + floor)
        yield ListRow(problems, words, clusters, floor, fixed_seconds(), found, sum(time or 0.0 for time in calls))


def _list_seconds(plan: LoweredKernel, problems: tuple[Mapping[str, int], ...]) -> tuple[int, float]:
    """The clusters of a list, and when the last of them ends, its launch counted: all start at once."""
    (launch,) = manifest(plan, {}, {}).plan.launches
    assert launch.many is not None
    places = int(values(TARGET)["sms"]) // plan.cluster.size
    tiles = [int(evaluate(plan.walk.tiles, sizes)) for sizes in problems]
    work = [int(evaluate(launch.many.work, sizes)) for sizes in problems]
    counts = shares(tiles, work, places)
    assert sum(counts) <= places
    last = 0.0
    for sizes, count in zip(problems, counts, strict=True):
        found = figures(plan, sizes)
        assert isinstance(found, GemmFigures)
        # By the closed form of a call on as many SMs as the problem has, and with no bound by DRAM, which all share.
        own = replace(TARGETS[TARGET].rates, sms=count * plan.cluster.size, dram_bytes_per_s=math.inf)
        last = max(last, estimate(found.work, own).time)
    return sum(counts), last


def main() -> None:
    """Prints the tables."""
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
    print(
        "\n| M of the groups | N x K | plan | clusters | sum of floors | fixed | model | / (floors + fixed) |", end=""
    )
    print(" one by one |")
    print("|---|---|---|---|---|---|---|---|---|")
    for each in lists():
        first = each.problems[0]
        groups = ", ".join(str(sizes["M"]) for sizes in each.problems)
        times = " | ".join(f"{seconds * 1e6:.2f}" for seconds in (each.floor, each.fixed, each.model))
        print(
            f"| {groups} | {first['N']} x {first['K']} | {each.plan} | {each.clusters} | {times} | {each.ratio:.2f} | "
            f"{each.loop * 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
