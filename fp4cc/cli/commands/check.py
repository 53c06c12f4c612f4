"""`fp4cc check`: every error of a spec, and whether what one kernel writes is what another reads."""

from __future__ import annotations

import sys

import click

from fp4cc.cli.chains import EndName, LinkType, chain_json, chain_text, check_links
from fp4cc.cli.options import json_option, print_json, set_option
from fp4cc.cli.terminal import wants_color, width_of

_EPILOG = """\b
Examples:
  fp4cc check gemm.fp4
  fp4cc check gemm.fp4 --target sm_100a --set N=4096
  cat gemm.fp4 | fp4cc check - --json
  fp4cc check mlp.fp4 --chain quantize_input.q=gate_up.x --chain gate_up.q=down.x
  fp4cc check --chain act.fp4:quantize.q=gemm.fp4:linear.x

A chain is right if each output has the type of the input it becomes: element, scale type, blocks,
layout, tensor scale, axes and sizes. Dims may have other names; what they are is printed.
"""


@click.command(epilog=_EPILOG)
@click.argument(
    "spec", type=click.Path(exists=True, dir_okay=False, allow_dash=True, readable=True), metavar="SPEC", required=False
)
@click.option("--target", metavar="ARCH", default="sm_100a", show_default=True, help="Target whose rules apply too.")
@click.option("--no-target", is_flag=True, help="Check the language's rules only.")
@set_option
@click.option(
    "--chain",
    "links",
    type=LinkType(),
    multiple=True,
    help="Prove that an output of one kernel has the type of an input of another. May be repeated; "
    "without FILE a kernel is one of SPEC.",
)
@json_option
def command(
    spec: str | None,
    target: str,
    no_target: bool,
    sizes: dict[str, int],
    links: tuple[tuple[EndName, EndName], ...],
    as_json: bool,
) -> None:
    """Check a spec: syntax, names, types, axes, formats, layouts, and what the target can do.

    Prints all errors of the file at once, each with its place, the rule behind it and what would work.
    """
    if spec is None and not links:
        raise click.UsageError("Missing argument 'SPEC'.")
    if spec is None and sizes:
        raise click.UsageError("--set fixes dims of SPEC, and none is given")
    if spec == "-" and links:
        raise click.UsageError("--chain reads files: give SPEC as one")
    answer: dict[str, object] = {"ok": True}
    lines: list[str] = []
    if spec is not None:
        answer |= _check_spec(spec, target, no_target, sizes, lines, quiet=as_json)
    if links:
        chain = check_links(links, spec, sizes)
        answer["chain"] = chain_json(chain)
        lines.append(chain_text(chain))
    if as_json:
        print_json(answer)
    else:
        click.echo("\n".join(lines))


def _check_spec(
    spec: str, target: str, no_target: bool, sizes: dict[str, int], lines: list[str], *, quiet: bool
) -> dict[str, object]:
    from fp4cc.diagnostics import render, to_json
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at
    from fp4cc.driver.stages import lower_kernels, typed_kernels

    request = Request(spec_at(spec), target, sizes)
    if no_target:
        typed, warnings = typed_kernels(request)
        names = [kernel.name for kernel in typed]
    else:
        lowered, warnings = lower_kernels(request)
        names = [kernel.name for kernel in lowered]
    if warnings and not quiet:
        click.echo(render(warnings, color=wants_color(sys.stderr), width=width_of(sys.stderr)), err=True, nl=False)
    kernels = f"{len(names)} kernel{'' if len(names) == 1 else 's'}"
    lines.append(f"{request.spec.name}: {kernels}, no errors")
    return {"kernels": names, "diagnostics": to_json(warnings)}
