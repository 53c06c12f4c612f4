"""A chart of measured calls, by matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp4cc.driver.request import RequestError

if TYPE_CHECKING:
    from fp4rt.bench import Measured

_ENDINGS = (".svg", ".png")
_SIZE, _DPI = (7.0, 4.5), 150

Draw = Callable[[str, "Sequence[Measured]"], None]


def chart_writer(path: Path) -> Draw:
    """What draws a chart to the file: `draw(title, measured)`. RequestError for another ending or a missing library."""
    if path.suffix not in _ENDINGS:
        raise RequestError(f"--chart {path}: a chart is written as {' or '.join(_ENDINGS)}")
    if find_spec("matplotlib") is None:
        raise RequestError("--chart needs matplotlib, which is not installed: pip install 'fp4cc[chart]'")
    return lambda title, found: _draw(path, title, found)


def _draw(path: Path, title: str, found: Sequence[Measured]) -> None:
    """TFLOP/s, or GB/s where nothing is multiplied, over the size that differs most among the calls."""
    import_module("matplotlib").use("agg")
    plt: Any = import_module("matplotlib.pyplot")
    dim = max(found[0].sizes, key=lambda name: len({one.sizes[name] for one in found}))
    figure, axes = plt.subplots(figsize=_SIZE)
    for names, ordered in _lines(found, dim).items():
        own = ", ".join(names) or title.partition(" ")[0]
        products = ordered[0].flop > 0
        xs = [one.sizes[dim] for one in ordered]
        ys = [(one.flops if products else one.bandwidth) / (1e12 if products else 1e9) for one in ordered]
        (drawn,) = axes.plot(xs, ys, marker="o", label=own)
        for style, peer in zip(("--", ":"), dict.fromkeys(p for one in ordered for p in one.peers), strict=False):
            known = [one for one in ordered if peer in one.peers]
            rates = [one.flop / one.peers[peer].median / 1e12 for one in known]
            axes.plot([one.sizes[dim] for one in known], rates, style, color=drawn.get_color(), label=f"cuBLAS {peer}")
    axes.set(xlabel=dim, ylabel="TFLOP/s" if found[0].flop else "GB/s", title=title)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def _lines(found: Sequence[Measured], dim: str) -> dict[tuple[str, ...], list[Measured]]:
    """The calls that differ in `dim` alone, in its order, by what tells them from the others."""
    varied = [name for name in found[0].sizes if name != dim and len({one.sizes[name] for one in found}) > 1]
    lines: dict[tuple[str, ...], list[Measured]] = {}
    for one in sorted(found, key=lambda one: one.sizes[dim]):
        lines.setdefault(tuple(f"{name} = {one.sizes[name]}" for name in varied), []).append(one)
    return lines
