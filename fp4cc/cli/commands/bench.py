"""`fp4cc bench`: the time of calls on a GPU, beside cuBLAS and the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fp4cc.cli.failures import Status, fail, failure_of
from fp4cc.cli.options import (
    cache_option,
    json_option,
    kernel_option,
    plans_option,
    print_json,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import progress, table
from fp4rt.sizes import sizes_text

if TYPE_CHECKING:
    from fp4cc.bench import Estimate
    from fp4rt.bench import Measured

_EPILOG = """\b
Examples:
  fp4cc bench gemm.fp4 --target sm_90a --set N=4096 --set K=4096
  fp4cc bench gemm.fp4 --target sm_90a --at M=1,16,256 --at N=4096,8192 --at K=4096
  fp4cc bench gemm.fp4 --target sm_90a --set N=4096 --set K=4096 --chart gemm.svg

\b
Without a compiler beside the GPU, copy what fp4cc compile writes there, and:
  python -m fp4rt.bench gemm.json --at M=1,16,256 --at N=4096 --at K=4096

A call is first compared with the reference, bit for bit. Times are of CUDA
graphs over buffers that exceed the L2 cache twice: the median of several passes
that take turns with cuBLAS (torch.mm in bf16, torch._scaled_mm in FP8).
Without a GPU the estimate and the memory are printed alone.

Exit status 1: a call differs from the reference. 3: no GPU of the target.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@set_option
@click.option(
    "--at",
    "calls",
    multiple=True,
    metavar="NAME=SIZE[,SIZE...]",
    help="Sizes of calls of the kernel for any size; each combination is timed. May be repeated.",
)
@click.option(
    "--chart",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw TFLOP/s over the sizes to an .svg or .png file (pip install 'fp4cc[chart]').",
)
@click.option("--device", default="cuda", show_default=True, metavar="cuda[:N]", help="Which GPU.")
@target_option
@kernel_option
@plans_option
@json_option
@cache_option
def command(
    spec: str,
    sizes: dict[str, int],
    calls: tuple[str, ...],
    chart: Path | None,
    device: str,
    target: str,
    kernel: str | None,
    plans: int,
    as_json: bool,
    no_cache: bool,
) -> int:
    """Time calls of a kernel on a GPU, beside cuBLAS and the estimate of `explain`."""
    from fp4cc.bench import estimates, requested
    from fp4cc.cli.chart import chart_writer
    from fp4cc.driver import Request, artifact_of, spec_at
    from fp4cc.driver.calls import build_for, planned_kernel
    from fp4cc.driver.request import only_kernel
    from fp4rt.bench import measure
    from fp4rt.cuda.timing import Gpu
    from fp4rt.errors import DeviceError

    draw = None if chart is None else chart_writer(chart)  # what is wrong with it is said before the work
    with progress(enabled=not as_json) as line:
        request = Request(spec_at(spec), target, sizes, kernel, plans)
        line.step("checking and lowering the spec")
        lowered, manifest = planned_kernel(request)
        asked = requested(request, lowered, calls)
        expected = estimates(lowered, manifest.kernel, asked)
        try:
            gpu = Gpu(device)
        except DeviceError as error:
            _print_estimates(manifest.name, target, expected, as_json=as_json, error=error)
            return Status.NO_DEVICE if as_json else fail(failure_of(error), as_json=False)
        each = {lowered.name: [one.sizes for one in expected]}
        built = build_for(request, each, [lowered], use_cache=not no_cache, step=line.step)
        loaded = artifact_of(only_kernel(built.kernels)).load_kernel(gpu.device)
        found: list[Measured] = []
        for one in expected:
            line.step(f"timing {sizes_text(one.sizes)} on {gpu.name}")
            found.append(measure(loaded, one.sizes, gpu))
    if draw is not None:
        draw(f"{manifest.name} on {gpu.name}", found)
    if as_json:
        print_json(
            {
                "ok": True, "kernel": manifest.name, "target": target, "device": gpu.name,
                "calls": [{**m.json(), "estimate": e.json()} for m, e in zip(found, expected, strict=True)],
            }
        )  # fmt: skip
    else:
        _print_measured(manifest.name, target, gpu.name, found, expected)
    return 0


def _print_measured(name: str, target: str, gpu: str, found: Sequence[Measured], expected: Sequence[Estimate]) -> None:
    from fp4rt.bench import header, row, unchecked

    peers = list(dict.fromkeys(peer for one in found for peer in one.peers))
    dims = list(expected[0].sizes)
    rows = [
        [*(str(e.sizes[d]) for d in dims), e.plan, *row(m, peers), _us(e.seconds), _percent(e.roofline, m.time.median)]
        for m, e in zip(found, expected, strict=True)
    ]
    click.echo(f"{name} for {target} on {gpu}")
    head = [*dims, "plan", *header(peers), "estimate, us", "% of roofline"]
    click.echo("\n".join(table(rows, head, indent="  ")))
    for one in found:
        if one.checked is None:
            click.echo(unchecked(one))
    _print_memory(expected)


def _print_estimates(name: str, target: str, expected: Sequence[Estimate], *, as_json: bool, error: Exception) -> None:
    if as_json:
        calls = [{"sizes": dict(e.sizes), "estimate": e.json()} for e in expected]
        print_json(
            {
                "ok": False, "kernel": name, "target": target, "device": None, "calls": calls,
                "diagnostics": failure_of(error).diagnostics,
            }
        )  # fmt: skip
        return
    dims = list(expected[0].sizes)
    rows = [[*(str(e.sizes[d]) for d in dims), e.plan, _us(e.seconds), _us(e.roofline)] for e in expected]
    click.echo(f"{name} for {target}: estimated, not measured")
    click.echo("\n".join(table(rows, [*dims, "plan", "estimate, us", "roofline, us"], indent="  ")))
    _print_memory(expected)


def _print_memory(expected: Sequence[Estimate]) -> None:
    from fp4cc.explain.memory import memory_table

    largest = max(expected, key=lambda one: sum(m.total for m in one.memory))
    rows, head = memory_table(largest.memory)
    click.echo(f"\nmemory at {sizes_text(largest.sizes)}, bytes")
    click.echo("\n".join(table(rows, head, indent="  ")))


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e6 * seconds:.2f}"


def _percent(roofline: float, seconds: float) -> str:
    return f"{100 * roofline / seconds:.0f}"
