"""Schedules: which block applies, what its fields ask for, and what the compiler chooses where nothing is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import Problem
from fp4cc.ir.sizes import Sizes, approximate, ceildiv, fold, free_names, mul
from fp4cc.passes.choice.estimate import Estimate, Option, Shape, Traffic, estimate
from fp4cc.targets import Target

#: What a dynamic dim counts as when the compiler ranks schedules: large, so that the choice is one for throughput.
ASSUMED = 4096
#: Orders of tiles that are worth measuring: what L2 holds depends on them, of which the model knows nothing.
ORDERS = tuple({"raster": (order,)} for order in ("along_m", "along_n", 8))
#: What a dynamic number of groups of ragged rows counts as.
ASSUMED_GROUPS = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What a schedule block asks for; None: the compiler chooses."""

    schedule: Schedule | None = None
    tile: tuple[int, int] | None = None
    cta_group: int | None = None
    cluster: tuple[int, int] | None = None
    stages: int | None = None
    accumulators: int | None = None
    band: int | None = None  # 0: no bands, along N
    swap: bool | None = False  # None: whichever is better


@dataclass(frozen=True, slots=True)
class Ranked:
    """An option with its estimate."""

    option: Option
    estimate: Estimate


def applicable(kernel: Kernel, sizes: Sizes, target: str) -> list[tuple[Expr | None, Schedule | None]]:
    """The schedules that can apply, first match first, with the condition still to be tested at a call (None: none).

    Ends with one that always applies: the first whose `when` holds for the static dims, or None for the compiler's.
    """
    found: list[tuple[Expr | None, Schedule | None]] = []
    for schedule in kernel.schedules:
        if schedule.target != target:
            continue
        when = True if schedule.when is None else sizes(schedule.when)
        if when is True:
            return [*found, (None, schedule)]
        if when is not False:
            found.append((when, schedule))
    return [*found, (None, None)]


def read(schedule: Schedule | None, tile_k: int, target: Target) -> Request:
    """The fields of a block, judged for the target. Raises DiagnosticError with everything wrong in it."""
    if schedule is None:
        return Request()
    errors: list[Diagnostic] = []
    tile = _tile(schedule, tile_k, target, errors)
    group = _one_of(schedule, "cta_group", (1, 2), errors)
    if tile is not None and group is not None and tile[0] != group * target.cta_rows:
        errors.append(
            error("FP5010", f"a tile of {tile[0]} rows is not made by {group} CTA{'s' * (group > 1)}",
                  schedule.field_spans["cta_group"], f"cta_group {group} makes {group * target.cta_rows} rows",
                  also=[(schedule.field_spans["tile"], "the tile")],
                  help=f"write `cta_group {tile[0] // target.cta_rows}`")
        )  # fmt: skip
    group = tile[0] // target.cta_rows if tile is not None else group
    cluster = _cluster(schedule, group or 1, tile[1] if tile else max(target.tile_n), target, errors)
    stages = _count(schedule, "stages")
    accumulators = _one_of(schedule, "accumulators", (1, 2), errors)
    band = asked_band(schedule)
    if "convert" in schedule.fields:
        errors.append(
            error("FP5013", f"`convert` cannot be chosen on {target.name}", schedule.field_spans["convert"],
                  "asked for here", notes=["operands with block scales are multiplied as they are"],
                  help="remove `convert`")
        )  # fmt: skip
    if errors:
        raise DiagnosticError(sorted(errors, key=lambda d: d.span.start if d.span else 0))
    swap = schedule.fields.get("swap_ab", (False,))[0]
    return Request(schedule, tile, group, cluster, stages, accumulators, band, swap if isinstance(swap, bool) else None)


def asked_band(schedule: Schedule | None) -> int | None:
    """The width of a band of tiles that a block asks for (0: no bands, along N); None: the compiler chooses."""
    raster = "auto" if schedule is None else schedule.fields.get("raster", ("auto",))[0]
    return {"along_n": 0, "along_m": 1}.get(str(raster), raster if isinstance(raster, int) else None)


def options(request: Request, shape: Shape, target: Target, *, fitting: bool = True) -> Iterator[Option]:
    """The legal options that fulfil a request, smaller clusters first; of the compiler's own, only fitting ones."""
    tiles = [request.tile] if request.tile else [(m, n) for m in (128, 256) for n in reversed(target.tile_n)]
    clusters = [request.cluster] if request.cluster else target.cluster_shapes
    for m, n in tiles:
        group = m // target.cta_rows
        if request.cta_group not in (None, group):
            continue
        if fitting and request.tile is None and request.cta_group is None and not _fills_tile(n, shape):
            continue
        for cluster in sorted(clusters, key=lambda c: c[0] * c[1]):
            if cluster_problem(cluster, group, n, target) is not None:
                continue
            if fitting and request.cluster is None and not _fills_cluster(cluster, group, n, shape):
                continue
            yield Option(group, n, *cluster)


def possible(request: Request, shape: Shape, target: Target) -> list[Option]:
    """The options to choose from."""
    # Where blocks of an output want tiles wider than the problem, or a cluster does, tiles are not filled.
    return list(options(request, shape, target)) or list(options(request, shape, target, fitting=False))


def label(option: Option, tile_k: int) -> str:
    """An option in words."""
    return f"{128 * option.cta_group} x {option.tile_n} x {tile_k}, cluster {option.cluster_m} x {option.cluster_n}"


def with_parts(option: Option, shape: Shape, tile_k: int, parts: Sequence[int]) -> list[Option]:
    """The option with K in so many parts each, no more than there are steps."""
    most = -(-shape.k // tile_k)
    return [replace(option, parts=count) for count in parts if count <= most] or [replace(option, parts=parts[0])]


def rank(request: Request, shape: Shape, traffic: Traffic, target: Target, parts: Sequence[int] = (1,)) -> list[Ranked]:
    """The options of a request, K in so many parts each, best first.

    Ties go to fewer parts, then to fewer CTAs in a cluster, then to the wider tile.
    """
    found = (o for one in possible(request, shape, target) for o in with_parts(one, shape, traffic.tile_k, parts))
    ranked = [Ranked(o, estimate(o, shape, traffic, target)) for o in found]
    # Differences under 2 % are below what the model knows: then the simpler schedule wins.
    best = min(r.estimate.clocks for r in ranked)
    return sorted(
        ranked,
        key=lambda r: (
            max(r.estimate.clocks, best * 1.02),
            r.option.parts,
            r.option.ctas,
            -r.option.tile_n,
            -r.option.cta_group,
        ),
    )


def assumed_shape(
    problem: Problem, when: Expr | None, at: Mapping[str, int] | None = None, assumed: int = ASSUMED
) -> tuple[Shape, dict[str, int]]:
    """Sizes to rank schedules by, and the dynamic dims with what each counts as: as in `at`, where it is there."""
    ks = _depths(problem)
    sizes = (problem.m, problem.n, *ks, problem.batch)
    names = tuple(dict.fromkeys(name for expr in sizes for name in free_names(expr)))
    values = {name: _bound(name, when) or assumed for name in names}
    values.update({name: 1 for name in free_names(problem.batch) if name in values})
    values.update({name: size for name, size in (at or {}).items() if name in values})
    m, n, *steps, batch = (max(1, approximate(e, values, assumed)) for e in sizes)
    if problem.ragged:  # ranked as if all groups had as many rows
        values.update(dict.fromkeys(free_names(problem.indices), ASSUMED_GROUPS))
        values.update({name: size for name, size in (at or {}).items() if name in values})
        batch = max(1, approximate(problem.indices, values, ASSUMED_GROUPS))
        m = -(-m // batch)
    if problem.shared_k != 1:  # ranked as if all groups had as many rows to contract
        values.update(dict.fromkeys(free_names(problem.batch), ASSUMED_GROUPS))
        values.update({name: size for name, size in (at or {}).items() if name in values})
        batch = max(1, approximate(problem.batch, values, ASSUMED_GROUPS))
        steps = [-(-k // batch) for k in steps]
    return Shape(m, n, sum(steps), batch), values


def problem_sizes(problem: Problem) -> dict[str, Expr]:
    """The sizes of a problem that the time model asks for, as expressions over the dims.

    Rows in groups count as if each group had the average; of ragged ones no more groups have any than there are rows.
    """
    first, *others = _depths(problem)
    k = fold("add", first, *others) if others else first
    m, batch = problem.m, problem.batch
    if problem.groups is not None and problem.groups.ragged:
        batch = fold("max", 1, fold("min", problem.groups.count, m))
        m = ceildiv(m, batch)
    return {"m": m, "n": problem.n, "k": ceildiv(k, problem.shared_k), "batch": batch}


def tiles_along_m(problem: Problem, rows: int) -> Expr:
    """The tiles of so many rows that a problem has about, in all batches.

    Of ragged rows those of an average group, whose last tile is half full, and at least one for each group with rows.
    """
    sizes = problem_sizes(problem)
    if problem.groups is None or not problem.groups.ragged:
        return mul(ceildiv(sizes["m"], rows), sizes["batch"])
    partly = fold("floordiv", sizes["batch"], 2)
    return fold("max", sizes["batch"], fold("add", fold("floordiv", problem.m, rows), partly))


def _depths(problem: Problem) -> list[Expr]:
    """The K of each mainloop, about."""
    return [k for _, k in dict.fromkeys((product.a.arg, product.k) for product in problem.products)]


def cluster_problem(cluster: tuple[int, int], group: int, tile_n: int, target: Target) -> str | None:
    """Why a cluster is not legal for a tile, or None if it is."""
    m, n = cluster
    if any(c < 1 or c & (c - 1) for c in cluster):
        return "each side of a cluster is a power of two"
    if m * n > target.cluster_max:
        return f"a cluster has at most {target.cluster_max} CTAs"
    if m % group:
        return "a tile of 256 rows takes a pair of CTAs along M"
    if tile_n // m % 8:
        return f"{m} CTAs along M would share B in slices of {tile_n / m:g} rows, and TMA writes groups of 8"
    if target.cta_rows // n % 8:
        return f"{n} CTAs along N would share A in slices of {target.cta_rows / n:g} rows, and TMA writes groups of 8"
    return None


def _fills_cluster(cluster: tuple[int, int], group: int, tile_n: int, shape: Shape) -> bool:
    """Whether the problem has rows and columns for each CTA of the cluster (a pair is never torn)."""
    return cluster[0] <= max(group, -(-shape.m // 128)) and cluster[1] <= -(-shape.n // tile_n)


def _fills_tile(n: int, shape: Shape) -> bool:
    """Whether a tile is no wider than the problem, but for the smallest tile. Rows past its end cost a pair little: its
    CTAs load half of B each."""
    return n <= max(64, -(-shape.n // 64) * 64)


def _bound(name: str, when: Expr | None) -> int | None:
    """The upper bound a condition gives for a dim, if it says so plainly."""
    if not isinstance(when, tuple):
        return None
    if when[0] == "and":
        bounds = [b for part in when[1:] if (b := _bound(name, part)) is not None]
        return min(bounds) if bounds else None
    if len(when) == 3 and when[1] == name and isinstance(when[2], int) and when[0] in ("le", "lt", "eq"):
        return when[2] - (when[0] == "lt")
    return None


def _tile(schedule: Schedule, tile_k: int, target: Target, errors: list[Diagnostic]) -> tuple[int, int] | None:
    if "tile" not in schedule.fields:
        return None
    m, n, k = (int(size) for size in schedule.fields["tile"] if isinstance(size, int))
    span = schedule.field_spans["tile"]
    rows = (target.cta_rows, 2 * target.cta_rows)
    nearest = (min(rows, key=lambda r: abs(r - m)), min(target.tile_n, key=lambda c: (abs(c - n), -c)), tile_k)
    help = f"write `tile {' x '.join(str(size) for size in nearest)}`"
    if m not in rows:
        errors.append(
            error("FP5010", f"no tile of {m} rows on {target.name}", span, "M is 128 (one CTA) or 256 (a pair of CTAs)",
                  notes=["block-scaled tcgen05.mma makes 128 rows in each CTA"], help=help)
        )  # fmt: skip
    if n not in (*target.tile_n, *target.narrow_n):
        legal, narrow = (", ".join(str(size) for size in sizes) for sizes in (target.tile_n, target.narrow_n))
        errors.append(
            error("FP5010", f"no tile of {n} columns on {target.name}", span, f"N is one of {legal}",
                  notes=["scales of B come in atoms of 128 columns, and an MMA can start at the half of one",
                         f"{narrow} too, whose scales converter warps lay out: an epilogue takes 32 columns at once"],
                  help=help)
        )  # fmt: skip
    if k != tile_k:
        errors.append(
            error("FP5010", f"no tile {k} deep for these formats", span, f"K is {tile_k}",
                  notes=["a row of a stage has 128 bytes: 256 packed four-bit elements, 128 of a byte, or 64 of two"],
                  help=help)
        )  # fmt: skip
    return (m, n) if m in rows and n in (*target.tile_n, *target.narrow_n) and k == tile_k else None


def _cluster(
    schedule: Schedule, group: int, tile_n: int, target: Target, errors: list[Diagnostic]
) -> tuple[int, int] | None:
    if "cluster" not in schedule.fields:
        return None
    m, n = (int(size) for size in schedule.fields["cluster"] if isinstance(size, int))
    problem = cluster_problem((m, n), group, tile_n, target)
    if problem is None:
        return m, n
    legal = [c for c in target.cluster_shapes if cluster_problem(c, group, tile_n, target) is None]
    nearest = min(legal, key=lambda c: (abs(c[0] - m) + abs(c[1] - n), c))
    errors.append(
        error("FP5011", f"no cluster of {m} x {n} CTAs here", schedule.field_spans["cluster"], problem,
              help=f"write `cluster {nearest[0]} x {nearest[1]}`")
    )  # fmt: skip
    return None


def _count(schedule: Schedule, field: str) -> int | None:
    value = schedule.fields.get(field, ("auto",))[0]
    return value if isinstance(value, int) else None


def _one_of(schedule: Schedule, field: str, legal: tuple[int, ...], errors: list[Diagnostic]) -> int | None:
    value = _count(schedule, field)
    if value is None or value in legal:
        return value
    choices = " or ".join(str(choice) for choice in legal)
    errors.append(
        error("FP5014", f"`{field} {value}` is not possible", schedule.field_spans[field], f"it is {choices}",
              help=f"write `{field} {legal[-1]}`")
    )  # fmt: skip
    return None
