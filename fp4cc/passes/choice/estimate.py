"""A rough time model that ranks schedules.

It knows fill bandwidth, tensor core issue, what converter warps do, waves and DRAM, nothing finer. Its time is a size
expression, so that the same formula ranks schedules for one size here, compares plans over thousands of sizes
(`fp4cc.passes.choice.table`), and picks the plan of a call.

Rates are the target's (`fp4cc.targets`); the issue intervals are measured ones: an instruction of a 1-CTA MMA takes
max(N/2, (128+N)/4) clocks, of a 2-CTA one max(N/2, 43).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fp4cc.ir.kernel import Expr
from fp4cc.ir.sizes import ceildiv, fold, mul
from fp4cc.passes.choice.split import meeting_clocks
from fp4cc.targets import Target
from fp4rt.sizes import evaluate

#: Clocks to start a CTA, fill its first stages and drain its last tile; more for each doubling of the cluster.
_RAMP = 2500.0
_CLUSTER_RAMP = 150.0
#: Clocks the epilogue takes for a column of a tile (128 rows: tensor memory read, arithmetic, store).
_EPILOGUE_PER_COLUMN = 4.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes to estimate for (dynamic ones assumed), and bytes a 128-element-wide K slice costs."""

    m: int
    n: int
    k: int
    batch: int

    @property
    def sizes(self) -> dict[str, Expr]:
        """The sizes by name."""
        return {"m": self.m, "n": self.n, "k": self.k, "batch": self.batch}


@dataclass(frozen=True, slots=True)
class Option:
    """A schedule in numbers: tile of one MMA, its CTAs, cluster, parts of K."""

    cta_group: int
    tile_n: int
    cluster_m: int
    cluster_n: int
    parts: int = 1

    @property
    def ctas(self) -> int:
        """Of a cluster."""
        return self.cluster_m * self.cluster_n


@dataclass(frozen=True, slots=True)
class Stream:
    """What one operand asks of a CTA for a stage, by row and by run of 128 rows (its scale atoms).

    Bytes that TMA brings, which CTAs share by multicast; bytes that converter warps read, each CTA for itself; and the
    clocks they take.
    """

    rows: float = 0.0
    runs: float = 0.0
    own_rows: float = 0.0
    own_runs: float = 0.0
    row_clocks: float = 0.0
    run_clocks: float = 0.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a stage of a tile asks for, and the bytes of the whole problem, operands and results."""

    tile_k: int
    a: Stream
    bs: tuple[Stream, ...]  # in a stage, each multiplied by the A
    instructions: int
    global_bytes: float
    accumulators: int = 1  # of a tile
    overlapped_n: int = 512  # the widest tile whose epilogue runs under the next one's mainloop
    narrow_bs: tuple[Stream, ...] = ()  # instead of `bs`, where tiles cut scale atoms

    def of_b(self, tile_n: int) -> tuple[Stream, ...]:
        """The streams of the Bs for tiles of so many columns."""
        return self.narrow_bs if self.narrow_bs and tile_n % 64 else self.bs


@dataclass(frozen=True, slots=True)
class Estimate:
    """Clocks, and what bounds the mainloop."""

    clocks: float
    waves: int
    bound: str
    fill_bytes_per_clock: float


@dataclass(frozen=True, slots=True)
class Stage:
    """Clocks that each part of a CTA takes for a stage of a tile, and the bytes that it asks of L2 for it."""

    multiply: float
    fill: float
    convert: float
    fill_bytes: float

    @classmethod
    def of(cls, option: Option, traffic: Traffic, target: Target) -> Stage:
        """A stage under an option."""
        n, group = option.tile_n, option.cta_group
        mma = (max(n / 2, (128 + n) / 4) if group == 1 else max(n / 2, 43.0)) * len(traffic.bs)
        # What this CTA asks of L2 for a stage: multicast shares the reads among the CTAs that need the same rows.
        a, runs = traffic.a, -(-n // 128)
        fill_bytes = (128 * a.rows + a.runs) / option.cluster_n + 128 * a.own_rows + a.own_runs
        convert = 128 * a.row_clocks + a.run_clocks
        for b in traffic.of_b(n):
            fill_bytes += (n * b.rows + runs * b.runs) / option.cluster_m + n / group * b.own_rows + runs * b.own_runs
            convert += n / group * b.row_clocks + runs * b.run_clocks
        fill = fill_bytes / target.rates.smem_fill_bytes_per_clock
        return cls(mma * traffic.instructions, fill, convert, fill_bytes)

    @property
    def clocks(self) -> int:
        """The slowest of them."""
        return max(1, round(max(self.multiply, self.fill, self.convert)))


def waves(option: Option, problem: Mapping[str, Expr], target: Target) -> Expr:
    """How often each cluster takes a tile, or a part of one. `problem` has the sizes m, n and batch."""
    return _waves(_tiles(option, problem), option, option.parts, target)


def _tiles(option: Option, problem: Mapping[str, Expr]) -> Expr:
    """Those of a cluster each."""
    rows, columns = 128 * option.cluster_m, option.tile_n * option.cluster_n
    return mul(ceildiv(problem["m"], rows), ceildiv(problem["n"], columns), problem["batch"])


def _waves(tiles: Expr, option: Option, parts: int, target: Target) -> Expr:
    size = option.ctas
    # CTAs of a cluster share a GPC, so not every SM can be used by large ones.
    clusters = max(1, int(target.rates.sms * (1.0 if size <= 2 else 0.97 if size <= 4 else 0.9)) // size)
    return ceildiv(tiles if parts == 1 else fold("mul", tiles, parts), clusters)


def clocks(option: Option, problem: Mapping[str, Expr], traffic: Traffic, target: Target) -> Expr:
    """The time of a problem under an option but for DRAM, in clocks of one SM: whole, a size expression.

    `problem` has the sizes m, n, k and batch as expressions, or as numbers: then it is a number.
    """
    return clocks_by_parts(option, problem, traffic, target)(option.parts)


def clocks_by_parts(
    option: Option, problem: Mapping[str, Expr], traffic: Traffic, target: Target
) -> Callable[[int], Expr]:
    """The same by the parts of K, whatever the option's.

    Parts meet after each, as part of its epilogue; under the last one's nothing is left to do.
    """
    width, tiles = option.tile_n * traffic.accumulators, _tiles(option, problem)
    stage, own = Stage.of(option, traffic, target).clocks, round(width * _EPILOGUE_PER_COLUMN)
    ramp = round(_RAMP + _CLUSTER_RAMP * (option.ctas.bit_length() - 1))
    joined = "max" if option.tile_n <= traffic.overlapped_n else "add"

    def time(parts: int) -> Expr:
        meeting = meeting_clocks(parts, 4 * 128 * width) if parts > 1 else 0
        mainloop = mul(ceildiv(problem["k"], traffic.tile_k * parts), stage)
        tile = fold(joined, mainloop, own + meeting)
        return fold("add", mul(_waves(tiles, option, parts, target), tile), ramp + meeting)

    return time


def estimate(option: Option, shape: Shape, traffic: Traffic, target: Target) -> Estimate:
    """The time of a problem under an option, with DRAM."""
    stage, sizes = Stage.of(option, traffic, target), shape.sizes
    compute = int(evaluate(clocks(option, sizes, traffic, target), {}))
    dram = traffic.global_bytes / (target.rates.choice_dram_bytes_per_s / (target.rates.clock_ghz * 1e9))
    bounds = {
        "tensor core": stage.multiply, "L2 to shared memory": stage.fill, "the converter warps": stage.convert,
    }  # fmt: skip
    bound = "DRAM" if dram > compute else max(bounds, key=lambda name: bounds[name])
    count = int(evaluate(waves(option, sizes, target), {}))
    return Estimate(max(compute, dram), count, bound, stage.fill_bytes / stage.clocks)
