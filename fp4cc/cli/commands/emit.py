"""`fp4cc emit`: one stage of the compilation on standard output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fp4cc.cli.files import write_file
from fp4cc.cli.options import cache_option, kernel_option, set_option, spec_argument, target_option
from fp4cc.cli.terminal import progress

if TYPE_CHECKING:
    from fp4cc.driver.build import Step
    from fp4cc.driver.request import Request

STAGES = ("ast", "ir", "lowered", "python", "ptx", "sass", "cubin")

_EPILOG = """\b
Stages, in order:
  ast      the tree of the text               ir      the typed kernel
  lowered  every number that was decided      python  the kernel in the CuTe DSL
  ptx      what the emulator runs             sass    needs NVIDIA's nvdisasm
  cubin    the binary (use -o, or a pipe)

\b
Examples:
  fp4cc emit gemm.fp4 --stage python
  fp4cc emit gemm.fp4 --stage ptx -o gemm.ptx
"""


@click.command(epilog=_EPILOG)
@spec_argument
@click.option("--stage", required=True, type=click.Choice(STAGES), help="Where to stop.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write to a file."
)
@target_option
@set_option
@kernel_option
@click.option(
    "--plans",
    type=click.IntRange(1, 6),
    default=1,
    show_default=True,
    metavar="N",
    help="At most so many plans for dynamic sizes, one after the other; `fp4cc compile` makes up to 6.",
)
@cache_option
def command(
    spec: str,
    stage: str,
    output: Path | None,
    target: str,
    sizes: dict[str, int],
    kernel: str | None,
    plans: int,
    no_cache: bool,
) -> None:
    """Print one stage of the compilation."""
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at

    if stage == "ast" and (sizes or kernel is not None):
        raise click.UsageError("the ast is the tree of the whole text: --set and --kernel do not apply; try --stage ir")
    if stage == "cubin" and output is None and sys.stdout.isatty():
        raise click.UsageError("a cubin is binary: write it to a file with -o FILE")
    request = Request(spec_at(spec), target, sizes, kernel, plans)
    with progress() as line:
        data = _stage(request, stage, not no_cache, line.step)
    if output is None:
        click.echo(data, nl=False)
    else:
        write_file(output, data)


def _stage(request: Request, stage: str, use_cache: bool, step: Step) -> bytes:
    from fp4cc.driver import stages

    if stage == "ast":
        return stages.ast_text(request).encode()
    if stage == "ir":
        return stages.ir_text(request).encode()
    if stage == "lowered":
        return stages.lowered_text(request).encode()
    if stage == "python":
        return stages.python_text(request).encode()
    from fp4cc.driver.build import build
    from fp4cc.driver.request import only_kernel

    built = only_kernel(build(request, use_cache=use_cache, step=step).kernels)
    if stage == "sass":
        from fp4cc.backend.sass import SassUnavailable, disassemble

        try:
            cubins = [data for name, data in built.files.items() if name.endswith(".cubin")]
            return "\n".join(map(disassemble, cubins)).encode()
        except SassUnavailable as fault:
            raise click.ClickException(str(fault)) from None
    return b"".join(data for name, data in built.files.items() if name.endswith(f".{stage}"))
