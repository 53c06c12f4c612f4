"""`fp4cc tune`: the fastest schedule for each size, as a file that a spec takes in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fp4cc.cli.failures import Status, failure_of
from fp4cc.cli.files import write_file, write_files
from fp4cc.cli.options import cache_option, json_option, kernel_option, print_json, spec_argument, target_option
from fp4cc.cli.terminal import Progress, bar, progress, table

if TYPE_CHECKING:
    from fp4cc.driver.request import Request
    from fp4cc.ir.kernel import Kernel
    from fp4cc.tuning.outcome import Outcome
    from fp4cc.tuning.ways import Ways
    from fp4rt.tune import Device
    from fp4rt.tuning import Results, Work

_EPILOG = """\b
Examples:
  fp4cc tune gemm.fp4 --target sm_90a --set M=1,16,256 --set N=4096 --set K=4096
  fp4cc tune gemm.fp4 --target sm_90a --set M=16 --set N=4096 --set K=4096 --top 8 --budget 60

\b
Where the GPU has no compiler beside it:
  fp4cc tune gemm.fp4 --target sm_90a --set M=1,16 --set N=4096 --set K=4096 --prepare work
  python -m fp4rt.tune work                               there: needs fp4rt and torch
  fp4cc tune gemm.fp4 --target sm_90a --from work

\b
A spec takes the file in by its name, and by nothing else: use "gemm.tuned.fp4"
Each schedule is compared with the reference before it is timed. What is measured
is remembered in the cache, by what was compiled, GPU and driver. Without a GPU
schedules are ranked by the model alone. Blocks of the spec itself play no part.

Exit status 1: a schedule differs from the reference. 130: Ctrl-C; what was done is written.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@click.option(
    "--set",
    "sizes",
    multiple=True,
    metavar="NAME=SIZE[,SIZE...]",
    help="Sizes of calls; each combination is tuned. Every open dimension needs some. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write. Default: NAME.tuned.fp4 beside the spec.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option(
    "--top", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N",
    help="Measure the best N of the model at each size, and at most N variations of the best one.",
)  # fmt: skip
@click.option(
    "--budget", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Stop after about so long."
)  # fmt: skip
@click.option("--prepare", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Compile the schedules into a folder for python -m fp4rt.tune, and measure nothing.")  # fmt: skip
@click.option("--from", "measured", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write what python -m fp4rt.tune has measured in this folder.")  # fmt: skip
@click.option("--device", default="cuda", show_default=True, metavar="cuda[:N]", help="Which GPU.")
@target_option
@kernel_option
@json_option
@cache_option
def command(
    spec: str,
    sizes: tuple[str, ...],
    output: Path | None,
    force: bool,
    top: int,
    budget: float | None,
    prepare: Path | None,
    measured: Path | None,
    device: str,
    target: str,
    kernel: str | None,
    as_json: bool,
    no_cache: bool,
) -> int:
    """Find the fastest schedule for each size on the GPU at hand, and write it as schedule blocks."""
    from fp4cc.driver import Request, RequestError, spec_at
    from fp4rt.tune import Clock

    if prepare is not None and measured is not None:
        raise RequestError("--prepare compiles and --from writes what was measured: give one of them")
    clock = Clock(budget)
    request = Request(spec_at(spec), target, {}, kernel)
    file = None if prepare is not None else _output(spec, output, force)
    with progress(enabled=not as_json) as line:
        typed = _kernel(request)
        if measured is not None:
            work, results = _from(typed, measured, target)
            stopped: BaseException | None = None
        else:
            ways, work = _ranked(typed, request, sizes, top, line)
            if prepare is not None:
                return _prepare(prepare, ways, work, as_json=as_json, line=line, cached=not no_cache)
            results, stopped = _measured(ways, work, device, clock, line, cached=not no_cache)
    assert file is not None
    status = _write(spec, file, work, results, as_json=as_json)
    if stopped is not None:
        raise stopped
    return status


def _output(spec: str, output: Path | None, force: bool) -> Path:
    """The file to write; said before the work where it cannot be."""
    from fp4cc.driver import RequestError

    if output is None:
        if spec == "-":
            raise RequestError("a spec from standard input has no name: give the file with -o")
        output = Path(spec).with_suffix(".tuned.fp4")
    if output.is_file() and not force:
        raise RequestError(f"{output} exists: --force replaces it, -o writes another file")
    return output


def _kernel(request: Request) -> Kernel:
    from fp4cc.driver import RequestError, only_kernel
    from fp4cc.driver.stages import check_target, typed_kernels

    check_target(request)
    kernel = only_kernel(typed_kernels(request)[0])
    for schedule in kernel.schedules:
        own = schedule.span.source.name == request.spec.name
        if own and schedule.target == request.target and schedule.when is None:
            raise RequestError(
                f"{kernel.name} has a schedule block without `when` for {request.target} in the spec itself, which "
                "comes before those of a tuned file: remove it, or give it a condition"
            )
    return kernel


def _ranked(typed: Kernel, request: Request, sizes: Sequence[str], top: int, line: Progress) -> tuple[Ways, Work]:
    from fp4cc.backend.toolchain import toolchain
    from fp4cc.tuning.calls import asked_calls
    from fp4cc.tuning.ways import Ways
    from fp4rt.tuning import Work

    asked = asked_calls(typed, sizes)
    ways = Ways(typed, request.target, top, line.step)
    calls = tuple(ways.of(each) for each in asked)
    return ways, Work(typed.name, request.target, _digest(typed), toolchain(), calls)


def _digest(typed: Kernel) -> str:
    """A hash of what is computed: schedules and names of files do not matter."""
    from fp4cc.cache import digest
    from fp4cc.ir.print import format_kernel

    return digest({"kernel": format_kernel(typed)})


def _prepare(folder: Path, ways: Ways, work: Work, *, as_json: bool, line: Progress, cached: bool) -> int:
    from fp4cc.cache import Store
    from fp4cc.driver.build import build_lowered
    from fp4rt.tuning import WORK

    line.step(f"compiling {len(ways.plans)} schedules")
    built = build_lowered(list(ways.plans.values()), work.target, Store() if cached else None)
    for name, kernel in zip(ways.plans, built, strict=True):
        write_files(folder / name, kernel.files)
    write_files(folder, {WORK: (json.dumps(work.json(), indent=1) + "\n").encode()})
    if as_json:
        print_json({"ok": True, "folder": str(folder), "schedules": len(ways.plans), "calls": len(work.calls)})
    else:
        click.echo(f"{folder}: {len(ways.plans)} schedules for {len(work.calls)} calls; measure them beside a GPU by")
        click.echo(f"  python -m fp4rt.tune {folder.name}")
    return Status.FINE


def _from(typed: Kernel, folder: Path, target: str) -> tuple[Work, Results]:
    """What a folder says; RequestError where it is of another kernel or target."""
    from fp4cc.driver import RequestError
    from fp4rt.tuning import RESULTS, WORK, parse_results, parse_work, read

    work, results = parse_work(read(folder, WORK)), parse_results(read(folder, RESULTS))
    if work.target != target:
        raise RequestError(f"{folder} was prepared for {work.target}, not {target}: give --target {work.target}")
    if (work.kernel, work.spec) != (typed.name, _digest(typed)) or results.spec != work.spec:
        raise RequestError(f"{folder} was prepared from another kernel than {typed.name} is now: prepare it again")
    return work, results


def _measured(
    ways: Ways, work: Work, device: str, clock: object, line: Progress, *, cached: bool
) -> tuple[Results | None, BaseException | None]:
    """What was measured, None without a GPU; and what ended it early, to be raised once the file is written."""
    from fp4cc.cache import Store
    from fp4cc.cli.interrupts import Interrupted
    from fp4cc.driver.build import build_lowered
    from fp4cc.tuning.measuring import Memory, Search
    from fp4rt.cuda.timing import Gpu
    from fp4rt.errors import DeviceError
    from fp4rt.tune import Clock, Tuner
    from fp4rt.tuning import Results, today

    assert isinstance(clock, Clock)
    try:
        gpu: Device = Gpu(device)
    except DeviceError as fault:
        _say_unmeasured(line, fault)
        return None, None
    store = Store() if cached else None
    search = Search(
        work,
        lambda names: dict(zip(names, build_lowered([ways.plans[n] for n in names], work.target, store), strict=True)),
        Tuner(gpu),
        Memory(store, gpu.name, gpu.driver),
        clock,
        lambda what, done, total: line.step(f"{bar(done, total)} {what}"),
    )
    stopped: BaseException | None = None
    try:
        if not search.run():
            line.say(f"time is up: {len(search.attempts)} of {sum(len(c.ways) for c in work.calls)} were measured")
    except DeviceError as fault:  # no GPU of this target
        if search.attempts:
            raise
        _say_unmeasured(line, fault)
        return None, None
    except (Interrupted, KeyboardInterrupt) as stop:
        if not search.attempts:
            raise
        stopped = stop
    if search.remembered:
        line.say(f"{search.remembered} of {len(search.attempts)} were measured by an earlier run")
    return Results(work.spec, gpu.name, gpu.driver, today(), tuple(search.attempts)), stopped


def _say_unmeasured(line: Progress, fault: Exception) -> None:
    line.say(f"{failure_of(fault).text}\nschedules are ranked by the model alone: nothing was measured")


def _write(spec: str, file: Path, work: Work, results: Results | None, *, as_json: bool) -> int:
    from fp4cc.tuning.outcome import document, outcomes, rows

    found = outcomes(work, results)
    shown = table(*rows(found))
    write_file(file, document(Path(spec).name, file.name, work, results, found, shown).encode())
    wrong = [one for one in found if one.dropped]
    if as_json:
        print_json(
            {
                "ok": not wrong, "kernel": work.kernel, "target": work.target, "output": str(file),
                "device": None if results is None else results.gpu, "calls": [one.json() for one in found],
            }
        )  # fmt: skip
    else:
        _print(file, work, results, found, shown)
    return Status.WRONG if wrong else Status.FINE


def _print(file: Path, work: Work, results: Results | None, found: Sequence[Outcome], shown: Sequence[str]) -> None:
    where = "ranked by the model alone" if results is None else f"measured on {results.gpu}"
    click.echo(f"{work.kernel} for {work.target}, {where}")
    click.echo("\n".join(f"  {line}" for line in shown))
    for one in found:
        for way, wrong in one.dropped:
            click.echo(f"dropped: {way.label}: {wrong}")
    blocks = sum(one.block for one in found)
    click.echo(
        f"{file}: schedules for {blocks} of {len(found)} calls"
        + ("" if blocks else "; none gains over the compiler's own")
    )
    click.echo(f'take it in: use "{file.name}"')
