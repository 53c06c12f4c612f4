"""Plans by size: the few that keep every call near the best, and the condition under which each is used.

Engines say what each candidate costs as a formula over the dims (`Candidate.clocks`). Here the formulas are evaluated
over sizes spread like those that people call with, the smallest set of candidates is taken that is nowhere more than
`WITHIN` slower than the best of all, and their conditions are made: intervals, where one dim is left open, and
comparisons of the formulas themselves, where several are. A call with new sizes evaluates them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

import numpy as np
import numpy.typing as npt

from fp4cc.ir.kernel import Arg, Expr, Kernel
from fp4cc.ir.roles import batch_dims, group_dims
from fp4cc.ir.sizes import Sizes, fold, free_names, mul, where
from fp4cc.passes.choice.cases import Bounds, Candidate, Case
from fp4cc.passes.choice.over import Known, over
from fp4cc.plans import MOST_PLANS
from fp4cc.targets import Chip
from fp4cc.targets.base import LAUNCH
from fp4num import BlockFormat
from fp4rt.sizes import names

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: How much slower than the best of all candidates a size may be before there is another plan.
WITHIN = 1.15
#: Sizes of rows, of other dims and of batches that the table is made for; beyond them the nearest plan goes on.
_ROWS, _OTHERS, _BATCHES, _GROUPS = (1, 16384), (256, 32768), (1, 64), (1, 512)
_SAMPLES = 640
#: Clocks that no plan takes.
_NEVER = 1 << 52
#: More than there are plans.
_DIGIT = 64
#: What a call may lose and still count as well served.
_EASY = 1.1
#: What a size that loses more than `WITHIN` costs a set of plans, beside what it loses.
_LEFT_BEHIND = 0.01
#: How much slower than the best plan an interval's may be before another takes over; more, where they get too many.
_SLACK, _INTERVALS = (1.02, 1.05, 1.1, WITHIN), 12


@dataclass(frozen=True, slots=True)
class Chosen:
    """A candidate that becomes a plan, by its number, and the case that asks for it."""

    number: int
    case: Case


def table(kernel: Kernel, chip: Chip, candidates: Sequence[Candidate], most: int = MOST_PLANS) -> list[Chosen]:
    """The plans for the candidates, in the order in which their conditions are tested; the last one has none.

    At least one candidate must serve every size (`within` None). With one plan, or no dim left open, it is the best.
    """
    bounds = Bounds.of(kernel)
    found = [replace(c, within=None) if implied(c.within, bounds) else c for c in candidates]
    dims = samples(kernel, found)
    times = call_times(kernel, chip, found, dims)
    picked = select(times / times.min(axis=0), [c.within is None for c in found], most)
    for number, plain in _plain(kernel, chip, found, picked, dims).items():
        found[number], times[number] = plain
    if len(picked) == 1:
        return [Chosen(picked[0], Case(None, None, found[picked[0]].pick))]
    if len(dims) == 1:
        return _intervals(kernel, chip, found, picked, dims)
    return _compared(found, picked, times, dims)


def implied(within: Expr | None, bounds: Bounds) -> bool:
    """Whether every call fulfils a candidate's condition, by the bounds of its dims."""
    if within is None:
        return True
    if not isinstance(within, tuple):
        return bool(within)
    operator, *operands = within
    if operator == "and":
        return all(implied(part, bounds) for part in operands)
    if operator not in ("le", "lt") or not isinstance(operands[1], int):
        return False
    most = bounds.most(operands[0])
    return most is not None and most <= operands[1] - (operator == "lt")


# Sizes and times.


def samples(kernel: Kernel, candidates: Sequence[Candidate]) -> dict[str, Ints]:
    """Sizes of the dims left open that candidates depend on: log-uniform, a quarter of them not of whole blocks.

    Always the same ones: a Kronecker sequence. Of a single dim, sizes on both sides of the edges of tiles.
    """
    open_ = {name for c in candidates for name in free_names((c.plain or c).clocks)}
    found = [d.name for d in kernel.dims if d.name in open_]
    bounds, usual = Bounds.of(kernel), _usual(kernel)
    steps = _steps(len(found))
    index = np.arange(1, _SAMPLES + 1)
    dims: dict[str, Ints] = {}
    for name, step in zip(found, steps, strict=True):
        low, high = _limits(name, usual.get(name, _OTHERS), bounds)
        spread = np.exp(log(low) + (index * step % 1.0) * (log(high + 1) - log(low))).astype(np.int64)
        if name not in usual:
            whole = np.maximum(256, spread // 256 * 256)
            spread = np.where(index % 4 != 0, whole, spread)
        dims[name] = np.clip(spread, low, high)
    if len(dims) == 1:
        ((name, spread),) = dims.items()
        low, high = _limits(name, usual.get(name, _OTHERS), bounds)
        edges = np.arange(128, min(high, 4096), 128)
        dims[name] = np.unique(np.clip(np.concatenate((spread, edges, edges + 1)), low, high))
    return dims


def _steps(count: int) -> list[float]:
    """The steps of a Kronecker sequence: powers of the root of x^(d+1) = x + 1 (M. Roberts 2018, R-sequences)."""
    root = 2.0
    for _ in range(32):
        root = (1.0 + root) ** (1.0 / (count + 1))
    return [root ** -(i + 1) for i in range(count)]


def _usual(kernel: Kernel) -> dict[str, tuple[int, int]]:
    """The least and the most that rows, batches and groups usually are; other dims are not in it."""
    batches = {name: _GROUPS if name in group_dims(kernel) else _BATCHES for name in batch_dims(kernel)}
    return {**batches, **dict.fromkeys(_rows(kernel), _ROWS)}


def _limits(name: str, usual: tuple[int, int], bounds: Bounds) -> tuple[int, int]:
    most = bounds.most(name)
    low = max(1, bounds.least(name))
    high = usual[1] if most is None else min(most, max(low, usual[1]))
    return min(max(low, usual[0]), max(1, high)), max(1, high, low)


def _rows(kernel: Kernel) -> frozenset[str]:
    """The dims that products have as rows, and as nothing else."""
    products = [value for value in kernel.values if value.op == "matmul"]
    extents = {str(axis.name): axis.extent for arg in kernel.args for axis in arg.axes if axis.name is not None}
    rows = {axis for value in products for axis in value.axes[-2:-1]}
    others = {axis for value in products for axis in value.axes[-1:]}
    return frozenset(name for axis in rows - others if axis in extents for name in names(extents[axis]))


def call_times(kernel: Kernel, chip: Chip, candidates: Sequence[Candidate], dims: Mapping[str, Ints]) -> Floats:
    """Clocks of a call by candidate and size: launch, and the slower of the plan and DRAM; infinite out of `within`."""
    if not dims:
        dims = {"": np.ones(1, np.int64)}  # nothing is left open: one call
    rates = chip.rates
    clock = rates.clock_ghz * 1e9
    dram = _bytes(kernel, dims) / (rates.choice_dram_bytes_per_s / clock)
    rows, known = list[Any](), Known()
    for candidate in candidates:
        time = np.maximum(over(candidate.clocks, dims, known), dram)
        legal = True if candidate.within is None else over(candidate.within, dims, known)
        rows.append(np.where(legal, time, np.inf))
    return np.array(rows, np.float64) + LAUNCH * clock


def _bytes(kernel: Kernel, dims: Mapping[str, Ints]) -> Floats:
    """Bytes of all arguments, each once; dims that the candidates do not depend on count as one.

    Of ragged rows no more groups have any than there are rows, and what the others have (weights) is not read.
    """
    sizes = Sizes.of(kernel.dims)
    one = np.ones_like(next(iter(dims.values())))
    total = np.zeros(one.shape, np.float64)
    rows = {axis.by: sizes(axis.extent) for arg in kernel.args for axis in arg.axes if axis.by is not None}
    groups = {name: m for by, m in rows.items() for name in names(kernel.arg(by).axes[0].extent)}  # E of E + 1
    for arg in kernel.args:
        count = np.full(one.shape, _element_bytes(arg))
        for axis in arg.axes:
            extent = sizes(axis.extent)
            if axis.name in groups:
                extent = fold("min", extent, groups[axis.name])
            count = count * over(extent, {**dict.fromkeys(free_names(extent), one), **dims})
        total = total + (count if arg.axes else 0.0)
    return total


def _element_bytes(arg: Arg) -> float:
    if not isinstance(arg.dtype, BlockFormat):
        return {"f32": 4.0, "i32": 4.0, "u32": 4.0, "u64": 8.0, "e4m3": 1.0, "e5m2": 1.0}.get(arg.dtype, 2.0)
    rows, columns = arg.dtype.stored
    block = (rows if isinstance(rows, int) else 1) * (columns if isinstance(columns, int) else 1 << 20)
    scale = 0.0 if arg.dtype.scale is None else 4.0 if arg.dtype.scale == "f32" else 1.0
    return arg.dtype.bits / 8 + scale / block


# Which candidates become plans.


def select(regret: Floats, everywhere: Sequence[bool], most: int) -> list[int]:
    """The fewest candidates that are within `WITHIN` of the best at every size; `most` of them where more are wanted.

    `regret`: how much slower than the best each candidate is at each size. One of the chosen serves all sizes.
    """
    useful = [i for i in range(len(regret)) if everywhere[i] or (regret[i] <= WITHIN).any()]
    found: list[int] = []
    for count in range(1, most + 1):
        found = _improved(regret, useful, everywhere, count, found)
        if regret[found].min(axis=0).max() <= WITHIN:
            break
    return found


def _improved(
    regret: Floats, useful: Sequence[int], everywhere: Sequence[bool], count: int, start: Sequence[int]
) -> list[int]:
    """A set of `count` candidates: what was found so far and the best one beside it, then exchanges that help."""
    among = regret[list(useful)].astype(np.float32)
    general = np.array([everywhere[i] for i in useful])
    chosen = [useful.index(i) for i in start]
    base = among[chosen].min(axis=0) if chosen else np.full(regret.shape[1], np.inf, np.float32)
    chosen.append(_best(among, base, np.ones_like(general) if chosen else general)[0])
    best, changed = np.inf, True
    while changed:
        changed = False
        for place in range(count):
            rest = [c for i, c in enumerate(chosen) if i != place]
            base = among[rest].min(axis=0) if rest else np.full(regret.shape[1], np.inf, np.float32)
            free = np.ones_like(general) if general[rest].any() else general
            candidate, cost = _best(among, base, free)
            if cost < best - 1e-9:
                changed = changed or candidate != chosen[place]
                chosen[place], best = candidate, cost
    return [useful[i] for i in chosen]


def _best(among: npt.NDArray[Any], base: npt.NDArray[Any], allowed: npt.NDArray[np.bool_]) -> tuple[int, float]:
    """The candidate that does most beside others whose regret is `base`, and the cost of the set then.

    The cost counts the sizes that lose more than `WITHIN`, grows with the square of what is lost beyond `_EASY`, so
    that no size is left far behind, and a little with all that is lost.
    """
    together = np.minimum(np.minimum(base, among), 1e3)
    beyond = np.maximum(together - _EASY, 0)
    cost = (_LEFT_BEHIND * (together > WITHIN) + beyond * beyond + 0.002 * together).mean(axis=1)
    cost = np.where(allowed, cost, np.inf)
    best = int(cost.argmin())
    return best, float(cost[best])


def _plain(
    kernel: Kernel, chip: Chip, candidates: Sequence[Candidate], picked: Sequence[int], dims: Mapping[str, Ints]
) -> dict[int, tuple[Candidate, Floats]]:
    """Those of the chosen ones that lose nothing without what only some sizes need, so made, with their times."""
    times = call_times(kernel, chip, [candidates[number] for number in picked], dims)
    least = times.min(axis=0)
    found: dict[int, tuple[Candidate, Floats]] = {}
    for own, number in zip(times, picked, strict=True):
        plain = candidates[number].plain
        if plain is None:
            continue
        plain = replace(plain, within=candidates[number].within)
        (without,) = call_times(kernel, chip, [plain], dims)
        if (without <= np.maximum(own, least) * _SLACK[0])[own <= least * _SLACK[0]].all():
            found[number] = (plain, without)
    return found


# Under which condition each of them is used.


def _compared(
    candidates: Sequence[Candidate], picked: Sequence[int], times: Floats, dims: Mapping[str, Ints]
) -> list[Chosen]:
    """Each plan where it is the fastest, of equal ones the first. Those that do not serve all sizes come first."""
    winner = times[list(picked)].argmin(axis=0)
    wins = {number: np.flatnonzero(winner == place) for place, number in enumerate(picked)}
    used = [number for number in picked if len(wins[number])]
    if not any(candidates[number].within is None for number in used):
        used.append(next(number for number in picked if candidates[number].within is None))
    used.sort(key=lambda number: (candidates[number].within is None, len(wins[number])))
    chosen: list[Chosen] = []
    # Each plan's place stands below its time, as a digit, so that all conditions ask for one and the same least.
    numbered = [fold("add", mul(served(candidates[n]), _DIGIT), place) for place, n in enumerate(used)]
    fastest = fold("mod", fold("min", *numbered), _DIGIT)
    for place, number in enumerate(used):
        candidate = candidates[number]
        won = wins[number] if len(wins[number]) else np.arange(times.shape[1])
        at = {name: round(exp(float(np.log(sizes[won]).mean()))) for name, sizes in dims.items()}
        when = None if place == len(used) - 1 else fold("eq", fastest, place)
        if when is not None and candidate.within is not None:
            when = fold("and", candidate.within, when)
        chosen.append(Chosen(number, Case(when, None, candidate.pick, at)))
    return chosen


def served(candidate: Candidate) -> Expr:
    """The time of a plan as others are compared with it: none is slower than one that does not serve a size."""
    return candidate.clocks if candidate.within is None else where(candidate.within, candidate.clocks, _NEVER)


def _intervals(
    kernel: Kernel, chip: Chip, candidates: Sequence[Candidate], picked: Sequence[int], dims: Mapping[str, Ints]
) -> list[Chosen]:
    """Intervals of the only open dim: each size has a plan that is hardly slower than the best of those picked."""
    ((name, sizes),) = dims.items()
    every = np.arange(sizes.min(), sizes.max() + 1)
    times = call_times(kernel, chip, [candidates[number] for number in picked], {name: every})
    regret = times / times.min(axis=0)
    runs = next(found for slack in _SLACK if len(found := _runs(regret <= slack)) <= _INTERVALS or slack == _SLACK[-1])
    # The last run goes on for ever, so its plan is the one without a condition; a candidate with one never ends so.
    last = runs[-1][0]
    if candidates[picked[last]].within is not None:
        last = next(i for i, number in enumerate(picked) if candidates[number].within is None)
        runs = [*runs, (last, len(every))]
    chosen: list[Chosen] = []
    for place in dict.fromkeys((*(run[0] for run in runs if run[0] != last), last)):
        spans = [
            (start, runs[i + 1][1] if i + 1 < len(runs) else len(every))
            for i, (plan, start) in enumerate(runs)
            if plan == place
        ]
        start, end = max(spans, key=lambda span: span[1] / (span[0] + 1))
        at = {name: round((int(every[min(start, len(every) - 1)]) * int(every[end - 1])) ** 0.5)}
        when = None if place == last else _either(name, spans, every)
        chosen.append(Chosen(picked[place], Case(when, None, candidates[picked[place]].pick, at)))
    return chosen


def _runs(fine: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Plans with the place from which each is used: at each change the one that stays fine longest."""
    count = fine.shape[1]
    # The first place at or after each at which a plan is not fine.
    bad = np.where(fine, count, np.arange(count))
    ends = np.minimum.accumulate(bad[:, ::-1], axis=1)[:, ::-1]
    runs: list[tuple[int, int]] = []
    place = 0
    while place < count:
        plan = int(ends[:, place].argmax())
        runs.append((plan, place))
        place = int(ends[plan, place])
    return runs


def _either(name: str, spans: Sequence[tuple[int, int]], every: Ints) -> Expr:
    """`name` within one of the spans, as a condition: below the first size there is, the first span goes on."""
    parts: list[Expr] = []
    for start, end in spans:
        below: Expr = ("le", name, int(every[end - 1]))
        parts.append(below if start == 0 else ("and", ("ge", name, int(every[start])), below))
    return parts[0] if len(parts) == 1 else ("or", *parts)
