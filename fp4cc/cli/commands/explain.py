"""`fp4cc explain`: what was chosen, why, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fp4cc.cli.options import (
    at_option,
    json_option,
    kernel_option,
    plans_option,
    print_json,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import definitions, progress

if TYPE_CHECKING:
    from fp4cc.backend.elf import ResourceUsage
    from fp4cc.driver.build import Step
    from fp4cc.driver.request import Request
    from fp4cc.explain.report import Report
    from fp4cc.ir.lowered import LoweredKernel

_EPILOG = """\b
Examples:
  fp4cc explain gemm.fp4
  fp4cc explain gemm.fp4 --set M=16 --set N=7168 --set K=16384   the kernel for these sizes alone, and the
                                                                 plans over M of the one for any M
  fp4cc explain gemm.fp4 --at M=16                             the kernel for any M, in a call with 16
  fp4cc explain gemm.fp4 --no-compile --json

Times are an estimate from published rates, not a measurement.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@target_option
@set_option
@at_option
@kernel_option
@plans_option
@click.option("--no-compile", is_flag=True, help="Skip the compilation that registers and code size need.")
@json_option
def command(
    spec: str,
    target: str,
    sizes: dict[str, int],
    call: dict[str, int],
    kernel: str | None,
    plans: int,
    no_compile: bool,
    as_json: bool,
) -> None:
    """Say what the compiler chose and why, what each resource costs, and what the alternatives were."""
    from fp4cc.driver.opened import opened_kernels
    from fp4cc.driver.request import NO_KERNEL, Request, RequestError
    from fp4cc.driver.sizes import at_sizes
    from fp4cc.driver.spec import spec_at
    from fp4cc.driver.stages import lower_kernels
    from fp4cc.explain.report import as_json as report_json
    from fp4cc.explain.report import reports

    with progress(enabled=not as_json) as line:
        line.step("checking and lowering the spec")
        request = Request(spec_at(spec), target, sizes, kernel, plans)
        call = at_sizes(request, call)
        lowered, _ = lower_kernels(request)
        if not lowered:
            raise RequestError(NO_KERNEL)
        opened = opened_kernels(request)
        usage: dict[str, ResourceUsage] = {} if no_compile else _usage(request, lowered, call, line.step)
    found = [one for kernel in lowered for one in reports(kernel, call, usage, opened.get(kernel.name))]
    if as_json:
        print_json({"ok": True, "kernels": [report_json(one) for one in found]})
        return
    for one in found:
        _print(one)


def _usage(
    request: Request, lowered: tuple[LoweredKernel, ...], call: dict[str, int], step: Step
) -> dict[str, ResourceUsage]:
    """What the compiled kernels take, by entry: of each only the plan that the call runs."""
    from fp4cc.backend.elf import resource_usage
    from fp4cc.driver.calls import build_for
    from fp4cc.explain.work import choose

    found: dict[str, ResourceUsage] = {}
    sizes = {kernel.name: [choose(kernel, call).sizes] for kernel in lowered if kernel.variants}
    for kernel in build_for(request, sizes, lowered, step=step).kernels:
        for name, data in kernel.files.items():
            if name.endswith(".cubin"):
                found |= resource_usage(data)
    return found


def _print(found: Report) -> None:
    from fp4cc.explain.report import choices, headline, sections

    click.echo("\n".join(headline(found)))
    for title, rows in (("choices", choices(found.plan.decisions)), *sections(found)):
        click.echo(f"\n{title}")
        click.echo("\n".join(definitions(rows)))
    click.echo()
