"""`fp4cc check`: every error of a spec, and nothing else."""

from __future__ import annotations

import sys

import click

from fp4cc.cli.options import json_option, print_json, set_option, spec_argument
from fp4cc.cli.terminal import wants_color

_EPILOG = """\b
Examples:
  fp4cc check gemm.fp4
  fp4cc check gemm.fp4 --target sm_100a --set N=4096
  cat gemm.fp4 | fp4cc check - --json
"""


@click.command(epilog=_EPILOG)
@spec_argument
@click.option("--target", metavar="ARCH", default="sm_100a", show_default=True, help="Target whose rules apply too.")
@click.option("--no-target", is_flag=True, help="Check the language's rules only.")
@set_option
@json_option
def command(spec: str, target: str, no_target: bool, sizes: dict[str, int], as_json: bool) -> None:
    """Check a spec: syntax, names, types, axes, formats, layouts, and what the target can do.

    Prints all errors of the file at once, each with its place, the rule behind it and what would work.
    """
    from fp4cc.diagnostics import render, to_json
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import read_spec
    from fp4cc.driver.stages import lower_kernels, typed_kernels

    request = Request(read_spec(spec), target, sizes)
    if no_target:
        typed, warnings = typed_kernels(request)
        names = [kernel.name for kernel in typed]
    else:
        lowered, warnings = lower_kernels(request)
        names = [kernel.name for kernel in lowered]
    if as_json:
        print_json({"ok": True, "kernels": names, "diagnostics": to_json(warnings)})
        return
    if warnings:
        click.echo(render(warnings, color=wants_color(sys.stderr)), err=True, nl=False)
    kernels = f"{len(names)} kernel{'' if len(names) == 1 else 's'}"
    click.echo(f"{request.spec.name}: {kernels}, no errors")
