"""`fp4cc trace`: when what would happen."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fp4cc.cli.options import (
    at_option,
    cache_option,
    json_option,
    kernel_option,
    print_json,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import progress, width_of

if TYPE_CHECKING:
    from fp4cc.trace.run import Traced

_EPILOG = """\b
Examples:
  fp4cc trace gemm.fp4 --set M=1024 --set N=1024 --set K=1024 -o trace.json
  fp4cc trace gemm.fp4 --at M=8192 --tiles 2      two tiles of a CTA, the others like them
  fp4cc trace gemm.fp4 --target sm_90a --json

\b
Open trace.json at https://ui.perfetto.dev. A part of the kernel runs on the
emulator; its instructions, copies and waits are then replayed with latencies and
rates. These are estimates: docs/trace.md says how far they are off on an H100,
and that no kernel of ours has run on a GPU of sm_100a.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@target_option
@set_option
@at_option
@kernel_option
@click.option(
    "--tiles",
    type=click.IntRange(1, 1024),
    default=3,
    show_default=True,
    help="How many tiles of a CTA are run, where a call has more of them.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the timeline there, for Perfetto (Chrome's trace event format).",
)
@json_option
@cache_option
def command(
    spec: str,
    target: str,
    sizes: dict[str, int],
    call: dict[str, int],
    kernel: str | None,
    tiles: int,
    output: Path | None,
    as_json: bool,
    no_cache: bool,
) -> None:
    """Predict when each warp, copy and tensor core of a call works and what it waits for."""
    from fp4cc.driver.request import Request
    from fp4cc.driver.sizes import at_sizes
    from fp4cc.driver.spec import spec_at
    from fp4cc.trace.run import traced

    with progress(enabled=not as_json) as line:
        request = Request(spec_at(spec), target, sizes, kernel)
        found = traced(request, at_sizes(request, call), tiles, use_cache=not no_cache, step=line.step)
        if output is not None:
            line.step(f"writing {output}")
            output.write_text(json.dumps(document(found)) + "\n", encoding="utf-8")
    if as_json:
        print_json({"ok": True, **found.json(), "file": None if output is None else str(output)})
        return
    from fp4cc.trace.view import show

    show(found, sys.stdout, width_of(sys.stdout))
    if output is not None:
        click.echo(f"\nwrote {output}: open it at https://ui.perfetto.dev")


def document(found: Traced) -> dict[str, Any]:
    """The timeline of all launches, one behind the other, for Perfetto."""
    from fp4rt.timing.emulator import chrome

    return chrome(found.launches, found.json())
