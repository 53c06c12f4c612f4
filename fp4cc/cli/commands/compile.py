"""`fp4cc compile`: artifacts on disk."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fp4cc.cli.files import write_files
from fp4cc.cli.options import (
    cache_option,
    json_option,
    kernel_option,
    print_json,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import progress, table, wants_color, width_of
from fp4cc.plans import MOST_PLANS, plans_for

if TYPE_CHECKING:
    from fp4cc.driver import BuiltKernel

_EPILOG = """\b
Examples:
  fp4cc compile gemm.fp4 -o out
  fp4cc compile gemm.fp4 -o out --set N=4096 --set K=7168   sizes as constants
  fp4cc compile gemm.fp4 -o out --keep-python               the emitted kernel too

Run the result with `fp4rt.load("out/NAME.json")`.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write to; made if missing.",
)
@target_option
@set_option
@kernel_option
@click.option(
    "--plans",
    type=click.IntRange(1, MOST_PLANS),
    metavar="N",
    help=f"At most so many plans for dynamic sizes, each for the sizes that it suits; 1: one for all.  "
    f"[default: {MOST_PLANS}; with --many 1]",
)
@click.option("--many", is_flag=True, help="For lists of problems too: kernel.many runs a list in one launch a plan.")
@click.option("--keep-python", is_flag=True, help="Write the emitted kernel file (NAME.py) too.")
@json_option
@cache_option
def command(
    spec: str,
    output: Path,
    target: str,
    sizes: dict[str, int],
    kernel: str | None,
    plans: int | None,
    many: bool,
    keep_python: bool,
    as_json: bool,
    no_cache: bool,
) -> None:
    """Compile a spec to NAME.cubin, NAME.ptx and NAME.json (the manifest) for each of its kernels.

    Needs no GPU. The same spec gives the same bytes; a second compile comes from the cache.
    """
    from fp4cc.driver.build import build
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at

    started = time.perf_counter()
    with progress(enabled=not as_json) as line:
        request = Request(spec_at(spec), target, sizes, kernel, plans_for(plans, many), many=many)
        built = build(request, use_cache=not no_cache, step=line.step)
    written = {k.name: _write(k, output, keep_python) for k in built.kernels}
    seconds = time.perf_counter() - started
    if as_json:
        from fp4cc.diagnostics import to_json

        print_json(
            {
                "ok": True,
                "target": target,
                "cached": built.cached,
                "seconds": round(seconds, 3),
                "plans": {k.name: _plans(k) for k in built.kernels},
                "kernels": {name: [str(path) for path in paths] for name, paths in written.items()},
                "diagnostics": to_json(built.warnings),
            }
        )
        return
    if built.warnings:
        from fp4cc.diagnostics import render

        click.echo(
            render(built.warnings, color=wants_color(sys.stderr), width=width_of(sys.stderr)), err=True, nl=False
        )
    for paths in written.values():
        for path in paths:
            click.echo(str(path))
    for k in built.kernels:
        if len(k.plans) > 1:
            rows = [[f"{stem}.cubin", str(len(k.files[f"{stem}.cubin"])), used] for stem, used in k.plans.items()]
            click.echo("\n".join(table(rows, [f"plans of {k.name}", "bytes", "used"])), err=True)
    size = sum(len(data) for k in built.kernels for name, data in k.files.items() if name.endswith(".cubin"))
    cached = " (cached)" if built.cached else ""
    click.echo(f"compiled for {target} in {seconds:.2f} s{cached}: {size} bytes of cubin", err=True)


def _plans(kernel: BuiltKernel) -> list[dict[str, object]]:
    """Each plan of a kernel: its cubin, the bytes of it, and when the runtime uses it."""
    cubins = {stem: f"{stem}.cubin" for stem in kernel.plans}
    return [
        {"cubin": cubins[stem], "bytes": len(kernel.files[cubins[stem]]), "used": used}
        for stem, used in kernel.plans.items()
    ]


def _write(kernel: BuiltKernel, folder: Path, keep_python: bool) -> list[Path]:
    """Write the files, the manifest last, so that a manifest never stands beside older files."""
    manifest = f"{kernel.name}.json"
    files = {**kernel.files, **(kernel.python if keep_python else {})}
    files[manifest] = files.pop(manifest)
    return write_files(folder, files)
