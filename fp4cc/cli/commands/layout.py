"""`fp4cc layout`: a scale layout in words and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fp4cc.cli.files import write_file
from fp4cc.cli.options import json_option, print_json
from fp4cc.cli.terminal import definitions

if TYPE_CHECKING:
    from fp4num import BlockFormat, ScaleLayout

_EPILOG = """\b
Examples:
  fp4cc layout nvfp4                          a standard format and its layout
  fp4cc layout blocked_128x4 --svg sf.svg     a layout, drawn
  fp4cc layout mine.fp4                       every format and layout of a file
  fp4cc layout nvfp4 --shape 4096x7168        the buffers of a tensor
"""


@click.command(epilog=_EPILOG)
@click.argument("what", metavar="SPEC|FORMAT|LAYOUT")
@click.option("--shape", metavar="ROWSxCOLUMNS", help="Show the buffers of a tensor of this shape, e.g. 8x128x4096.")
@click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the layout to FILE.")
@click.option("--full", is_flag=True, help="Every row of the atom, not only those around its seams.")
@json_option
def command(what: str, shape: str | None, svg: Path | None, full: bool, as_json: bool) -> None:
    """Describe a scale layout: its meaning, the proof that it is a bijection, and where each scale lies."""
    from fp4cc.layout import draw_svg

    sizes = None if shape is None else _parse_shape(shape)
    formats, layouts = _find(what)
    if svg is not None:
        if len(layouts) != 1:
            names = ", ".join(layout.name for layout in layouts)
            raise click.UsageError(f"--svg draws one layout, and {what} has {names}: name one of them")
        write_file(svg, draw_svg(layouts[0]).encode())
    if as_json:
        print_json(
            {
                "ok": True,
                "formats": [_format_json(fmt, sizes) for fmt in formats],
                "layouts": [_layout_json(layout) for layout in layouts],
            }
        )
        return
    for fmt in formats:
        _print_format(fmt, sizes)
    for layout in layouts:
        _print_layout(layout, full)
    if svg is not None:
        click.echo(f"drew {layouts[0].name} to {svg}", err=True)


def _parse_shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or any(n < 0 for n in shape):
        raise click.BadParameter(f"{text!r} is not a shape; write for example 4096x7168", param_hint="--shape")
    return shape


def _find(what: str) -> tuple[list[BlockFormat], list[ScaleLayout]]:
    """The formats and layouts that a word or a file stands for; each layout once."""
    from fp4num import FORMATS, LAYOUTS

    if what in FORMATS:
        return [FORMATS[what]], [FORMATS[what].layout]
    if what in LAYOUTS:
        return [], [LAYOUTS[what]]
    if not Path(what).is_file():
        from fp4cc.diagnostics import did_you_mean

        known = f"formats: {', '.join(FORMATS)}; layouts: {', '.join(LAYOUTS)}"
        hint = did_you_mean(what, (*FORMATS, *LAYOUTS)) or known
        raise click.UsageError(f"{what} is neither a file, nor a format, nor a layout; {hint}")
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at
    from fp4cc.driver.stages import formats_and_layouts

    formats, layouts = formats_and_layouts(Request(spec_at(what)))
    everything = {layout.name: layout for layout in (*layouts, *(fmt.layout for fmt in formats))}
    return formats, list(everything.values())


def _print_format(fmt: BlockFormat, shape: tuple[int, ...] | None) -> None:
    from fp4cc.layout import describe_format, describe_tensor

    click.echo(f"format {fmt.name}")
    _print_rows(describe_format(fmt))
    if shape is not None:
        click.echo(f"tensor [{', '.join(map(str, shape))}]")
        _print_rows(describe_tensor(fmt, shape))
    click.echo()


def _print_layout(layout: ScaleLayout, full: bool) -> None:
    from fp4cc.layout import describe_layout, draw_atom, draw_memory

    click.echo(f"layout {layout.name}")
    _print_rows(describe_layout(layout))
    click.echo("\noffset of the scale of stored block (row, k) in one atom:")
    click.echo("\n".join(draw_atom(layout, full=full)))
    click.echo("\nthe same in memory: what lies at each offset, as row.k:")
    click.echo("\n".join(draw_memory(layout, full=full)) + "\n")


def _print_rows(rows: list[tuple[str, str]]) -> None:
    click.echo("\n".join(definitions(rows)))


def _format_json(fmt: BlockFormat, shape: tuple[int, ...] | None) -> dict[str, Any]:
    from fp4cc.layout.padding import Padding

    found: dict[str, Any] = {"format": fmt.to_json()}
    if shape is not None:
        found |= {
            "shape": list(shape),
            "codes_shape": list(fmt.codes_shape(shape)),
            "scales_size": fmt.scales_size(shape),
            "scales_padding": 0 if fmt.scale is None else Padding.of(fmt, shape).padding,
        }
    return found


def _layout_json(layout: ScaleLayout) -> dict[str, Any]:
    from fp4cc.layout.atom import atom_of
    from fp4cc.layout.describe import offset_formula

    return {
        "layout": layout.to_json(),
        "offset": offset_formula(layout),
        "proof": layout.prove().lines(),
        "atom_offsets": [list(row) for row in atom_of(layout).offsets],
    }
