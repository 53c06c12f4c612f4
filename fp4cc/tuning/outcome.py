"""What was found for each call, and the file of schedule blocks that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fp4cc.tuning.calls import condition
from fp4rt.sizes import sizes_text, text
from fp4rt.tuning import Attempt, Call, Results, Way, Work

#: A block is written where it is faster than the compiler's own plan by this factor: less is the clock's noise.
GAIN = 1.02
#: Times that differ by less are the same.
NOISE = 1.005


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call, the way that is best for it and the compiler's own, with seconds: measured, or of the model.

    `best` is `own` where no block is faster by `GAIN`; seconds are None where a way was not measured or is wrong.
    `tried`: how many were measured. `dropped`: what is wrong with which.
    """

    call: Call
    own: Way
    own_seconds: float | None
    best: Way
    best_seconds: float | None
    tried: int
    dropped: tuple[tuple[Way, str], ...] = ()

    @property
    def block(self) -> bool:
        """Whether a block is written for it."""
        return self.best.fields is not None and self.best_seconds is not None

    def json(self) -> dict[str, object]:
        """The outcome for machines."""
        return {
            "sizes": dict(self.call.sizes),
            "schedule": None if self.best.fields is None else list(self.best.fields),
            "label": self.best.label,
            "seconds": self.best_seconds,
            "own": {"label": self.own.label, "seconds": self.own_seconds},
            "tried": self.tried,
            "dropped": [{"label": way.label, "schedule": way.fields, "wrong": wrong} for way, wrong in self.dropped],
        }


def outcomes(work: Work, results: Results | None) -> list[Outcome]:
    """The outcome of each call: by what was measured, or by the model alone where nothing could be (None)."""
    return [_modeled(call) if results is None else _measured(call, results.attempts) for call in work.calls]


def _modeled(call: Call) -> Outcome:
    own = call.ways[0]
    best = min((way for way in call.ways if way.model is not None), key=lambda way: way.model or 0.0, default=own)
    if best.model is not None and own.model is not None and best.model * GAIN >= own.model:
        best = own
    return Outcome(call, own, own.model, best, best.model, 0)


def _measured(call: Call, attempts: Sequence[Attempt]) -> Outcome:
    """The fastest beside the compiler's own plan; of those that differ by the clock's noise the one that says least."""
    known = {one.artifact: one for one in attempts if dict(one.sizes) == dict(call.sizes)}
    dropped = tuple((w, known[w.artifact].wrong) for w in call.ways if w.artifact in known and known[w.artifact].wrong)
    own = call.ways[0]
    first = known.get(own.artifact)
    times = {one.artifact: _against(one, first) for one in known.values() if one.time is not None}
    fine = [way for way in call.ways if way.artifact in times]
    if not fine:
        return Outcome(call, own, None, own, None, len(known), dropped)
    least = min(times.values())
    near = [way for way in fine if times[way.artifact] <= least * NOISE]
    best = min(near, key=lambda way: len(way.fields or ()))
    if own in fine and times[best.artifact] * GAIN >= times[own.artifact]:
        best = own
    found = known[best.artifact]
    beside = found.own or (first.time if first is not None else None)
    seconds = None if found.time is None else found.time.median
    return Outcome(call, own, None if beside is None else beside.median, best, seconds, len(known), dropped)


def _against(found: Attempt, own: Attempt | None) -> float:
    """Its time by that of the compiler's own plan, in the same turns; in seconds where that plan is wrong."""
    if found is own:
        return 1.0
    if found.ratio is not None:
        return found.ratio
    median = found.time.median if found.time is not None else float("inf")
    return median / own.time.median if own is not None and own.time is not None else median


def rows(found: Sequence[Outcome]) -> tuple[list[list[str]], list[str]]:
    """The outcomes as a table: cells and header."""
    dims = list(found[0].call.sizes)
    cells = [
        [
            *(str(one.call.sizes[d]) for d in dims),
            _us(one.own_seconds),
            _us(one.best_seconds),
            _gain(one),
            one.best.label if one.block else f"the compiler's own: {one.own.label}",
        ]
        for one in found
    ]
    return cells, [*dims, "own, us", "tuned, us", "x", "schedule"]


def document(
    spec: str, output: str, work: Work, results: Results | None, found: Sequence[Outcome], shown: Sequence[str]
) -> str:
    """The file: a header that says where the times come from, and a block for each call that gains by one.

    `shown` are the lines of the table of outcomes. Neighboring calls with the same kernel share a block.
    """
    versions = ", ".join(f"{name} {version}" for name, version in sorted(work.toolchain.items()))
    where = (
        [f"# GPU        {results.gpu}, driver {results.driver}", f"# date       {results.date}"]
        if results is not None
        else ["# GPU        none: ranked by the compiler's model alone, nothing was measured"]
    )
    head = [
        f"# Schedules of `{work.kernel}` for {work.target}, by `fp4cc tune`. {spec} takes them in by the line",
        f'#     use "{output}"',
        *where,
        f"# toolchain  {versions}",
        f"# {'medians of calls, measured' if results is not None else 'times in the model'}:",
        *(f"#   {line}" for line in shown),
    ]
    for one in found:
        head += [f"# dropped at {sizes_text(one.call.sizes)}: {way.label}: {wrong}" for way, wrong in one.dropped]
    blocks = [_block(work, run) for run in _runs([one for one in found if one.block])]
    return "\n".join(_ascii(line) for line in (*head, *(line for block in blocks for line in ("", *block)))) + "\n"


def _runs(found: Sequence[Outcome]) -> list[list[Outcome]]:
    """Calls with one kernel whose sizes join."""
    runs: list[list[Outcome]] = []
    for one in found:
        if runs:
            last = runs[-1][-1]
            joined = last.call.dim and last.call.high == one.call.low and last.call.others == one.call.others
            if joined and (last.best.artifact, last.best.fields) == (one.best.artifact, one.best.fields):
                runs[-1].append(one)
                continue
        runs.append([one])
    return runs


def _block(work: Work, run: Sequence[Outcome]) -> list[str]:
    first, last = run[0].call, run[-1].call
    when = condition(first.dim, first.low, last.high, first.others)
    head = f"schedule {work.kernel} on {work.target}" + ("" if when is None else f" when {text(when)}")
    fields = run[0].best.fields or ()
    return [f"{head} {{ }}"] if not fields else [f"{head} {{", *(f"    {line}" for line in fields), "}"]


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e6 * seconds:.2f}"


def _gain(one: Outcome) -> str:
    if one.own_seconds is None or one.best_seconds is None:
        return "-"
    return f"{one.own_seconds / one.best_seconds:.2f}"


def _ascii(line: str) -> str:
    """One line of a comment: what a GPU or an error is called may be anything."""
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in line).rstrip()
