"""A traced call on the terminal: the times, what limits, and a strip for each track."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fp4cc.cli.terminal import wants_color
from fp4cc.explain.rows import us
from fp4rt.sizes import sizes_text

if TYPE_CHECKING:
    from fp4cc.trace.run import Traced
    from fp4rt.timing.emulator import Predicted

#: How full a cell of a strip is, from nothing to all of it.
_SHADES = " ░▒▓█"
_PLAIN = " .:*#"
#: Characters of a strip, and of a bar.
_STRIP, _BAR = 72, 30


def show(traced: Traced, stream: IO[str], width: int | None) -> None:
    """Prints it."""
    color = wants_color(stream)
    console = Console(file=stream, width=width or 120, no_color=not color, force_terminal=color, highlight=False)
    shades = _SHADES if (getattr(stream, "encoding", "") or "").lower().startswith("utf") else _PLAIN
    console.print(Text(f"{traced.kernel} for {traced.target} at {sizes_text(traced.chosen.sizes)}", "bold"))
    console.print(summary(traced))
    console.print(f"  {against(traced)}")
    console.print(f"  {doubt(traced)}")
    for one in traced.launches:
        console.print()
        console.print(Text(f"{one.entry}: {us(one.seconds)}, limited by {one.timeline.limit}", "bold"))
        console.print(f"  {sample(one)}")
        console.print(_busy(one, shades))
        console.print(_stalls(one, shades))
        console.print(_strips(one, shades))


def summary(traced: Traced) -> str:
    """The time, and that of the roofline."""
    return (
        f"  predicted {us(traced.seconds)}, {traced.efficiency:.0%} of the roofline ({us(traced.roofline)}); "
        f"{len(traced.launches)} launch{'' if len(traced.launches) == 1 else 'es'}"
    )


def against(traced: Traced) -> str:
    """What the closed form says, and how far it is off."""
    if traced.closed is None:
        return "fp4cc explain has no formula for this kernel"
    return f"the closed form of fp4cc explain: {us(traced.closed)}, {traced.closed / traced.seconds - 1:+.0%}"


def doubt(traced: Traced) -> str:
    """How far such predictions have been off."""
    error = traced.parameters["trace_error"]
    if traced.target == "sm_90a":
        return f"of calls on an H100 that nothing was fitted to, half are within {error.value:.0%} (docs/trace.md)"
    return f"no kernel of ours has run on {traced.target}; others' at such sizes differ by {error.value:.0%}, in median"


def sample(one: Predicted) -> str:
    """What of the launch was run."""
    recorded, line = one.recorded, one.timeline
    clusters = "cluster" if line.sms > 1 else "CTA"
    units = recorded.samples[-1][0]
    each = "tiles" if recorded.persistent else f"{clusters}s"
    if recorded.sampled:
        part = f"sampled: {units} of the {recorded.units} {each} of one {clusters}, the rest like the last of them"
    elif recorded.persistent:
        part = f"all {recorded.units} {each} of one {clusters}" if recorded.units > 1 else f"the tile of one {clusters}"
    else:
        part = f"two {clusters}s, which stand for the {recorded.units} that an SM gets"
    clock = f"{one.cycles:.0f} clocks at {one.clock_ghz:.2f} GHz"
    return f"{clock}; {part}; {recorded.active} SMs are busy"


def _busy(one: Predicted, shades: str) -> Table:
    table = Table("resource", "busy", "", box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for name, part in sorted(one.timeline.busy.items(), key=lambda item: -item[1]):
        if part >= 0.005:
            table.add_row(name, f"{part:.0%}", shades[-1] * round(_BAR * min(part, 1.0)))
    return table


def _stalls(one: Predicted, shades: str) -> Table:
    stalls = one.timeline.stalls
    total = sum(stalls.values()) or 1.0
    table = Table("warps' time", "part", "", box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for name, clocks in sorted(stalls.items(), key=lambda item: -item[1]):
        if clocks / total >= 0.005:
            what = "run" if name == "runs" else f"wait for {name}"
            table.add_row(what, f"{clocks / total:.0%}", shades[-1] * round(_BAR * clocks / total))
    return table


def _strips(one: Predicted, shades: str) -> Table:
    """The first SM's tracks over the time of the sample."""
    line = one.timeline
    table = Table("track", f"0 to {line.cycles:.0f} clocks", box=None, pad_edge=False, padding=(0, 2, 0, 2))
    first = min((span[0] for span in line.spans), default="")
    tracks: dict[str, list[tuple[float, float]]] = {}
    for process, track, what, begin, end in line.spans:
        if process == first:
            spans = tracks.setdefault(track, [])
            if not what.startswith("waits"):
                spans.append((begin, end))
    for track in sorted(tracks, key=_order):
        table.add_row(track, strip(tracks[track], line.cycles, shades))
    return table


def _order(track: str) -> tuple[bool, str, int]:
    word, _, number = track.rpartition(" ")
    return (not track.startswith("warp"), word if number.isdigit() else track, int(number) if number.isdigit() else 0)


def strip(spans: Iterable[tuple[float, float]], end: float, shades: str = _SHADES, cells: int = _STRIP) -> str:
    """How busy a track is over time, a character for each part of it."""
    filled = [0.0] * cells
    size = max(end, 1.0) / cells
    for begin, until in spans:
        cell = int(begin / size)
        while begin < until and cell < cells:
            stop = min(until, (cell + 1) * size)
            filled[cell] += stop - begin
            begin, cell = max(stop, (cell + 1) * size), cell + 1
    top = len(shades) - 1
    return "".join(shades[min(top, 0 if part <= 0 else 1 + int(part / size * (top - 0.01)))] for part in filled)
