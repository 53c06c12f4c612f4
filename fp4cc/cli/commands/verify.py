"""`fp4cc verify`: many runs against the reference."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from fp4cc.cli.commands.run import trial_json
from fp4cc.cli.options import (
    at_option,
    cache_option,
    device_option,
    json_option,
    kernel_option,
    print_json,
    seed_option,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import Progress, progress, table
from fp4rt.sizes import sizes_text

if TYPE_CHECKING:
    from fp4cc.driver import BuiltKernel
    from fp4rt import Artifact, Kernel
    from fp4rt.trial import Trial

#: SMs of the emulated GPU: few, so that persistent clusters take several tiles each.
_FEW_SMS = 8

_EPILOG = """\b
Examples:
  fp4cc verify gemm.fp4
  fp4cc verify gemm.fp4 --at K=4096 --delays 5      K is 4096 in every run
  fp4cc verify gemm.fp4 --set K=4096                the kernel built for that K
  fp4cc verify gemm.fp4 --device cuda

On the emulator each shape runs once with asynchronous work done at once, and the
first shapes again with random delays, which finds missing waits.

--order and --check say how severe a failed check of the order of accesses is:
strict is the letter of the PTX ISA, default warns of what published kernels do on
purpose. --check race=warn changes one check: fault, warn or off.
"""


Level = Literal["fault", "warn", "off"]


class _Check(click.ParamType):
    """`NAME=LEVEL`."""

    name = "NAME=LEVEL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Level]:
        from fp4rt.devices.emulator import unknown_check

        if isinstance(value, tuple):
            return value
        name, equals, level = str(value).partition("=")
        if not equals:
            self.fail(f"{value!r} is not NAME=LEVEL; write for example --check race=warn", param, ctx)
        if wrong := unknown_check(name, level):
            self.fail(wrong, param, ctx)
        return name, level  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Judged:
    """How the order of accesses is judged, and what it was only warned of."""

    order: Literal["strict", "default"]
    checks: dict[str, Level]
    warned: dict[str, None]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: its trial, or the fault that stopped the kernel."""

    mode: str
    dims: dict[str, int]
    trial: Trial | None
    fault: str = ""

    @property
    def equal(self) -> bool:
        return self.trial is not None and self.trial.equal

    @property
    def row(self) -> list[str]:
        seconds = "-" if self.trial is None else f"{self.trial.device_seconds:.2f} s"
        result = "equal" if self.equal else "FAULT" if self.fault else "DIFFERS"
        return [sizes_text(self.dims), self.mode, seconds, result]

    @property
    def problems(self) -> list[str]:
        found = [] if self.trial is None else [str(c) for c in self.trial.comparisons if not c.equal]
        return [f"at {sizes_text(self.dims)}, {self.mode}: {text}" for text in ([self.fault] if self.fault else found)]

    def json(self) -> dict[str, object]:
        trial = {"sizes": self.dims} if self.trial is None else trial_json(self.trial)
        return {"mode": self.mode, "ok": self.equal, "fault": self.fault, **trial}


@click.command(epilog=_EPILOG)
@spec_argument
@device_option
@set_option
@at_option
@click.option(
    "--delays", default=2, show_default=True, type=click.IntRange(0, 1000), help="Runs with random completion delays."
)
@click.option(
    "--order",
    default="strict",
    show_default=True,
    type=click.Choice(["strict", "default"]),
    help="How the order of accesses is judged on the emulator.",
)
@click.option("--check", "checks", multiple=True, type=_Check(), help="The level of one of its checks.")
@seed_option
@target_option
@kernel_option
@json_option
@cache_option
def command(
    spec: str,
    device: str,
    sizes: dict[str, int],
    call: dict[str, int],
    delays: int,
    order: Literal["strict", "default"],
    checks: tuple[tuple[str, Level], ...],
    seed: int,
    target: str,
    kernel: str | None,
    as_json: bool,
    no_cache: bool,
) -> int:
    """Run the kernel at several shapes, residues and empty ones included, and compare each with the reference.

    On the emulator each run also proves that the kernel's accesses are ordered.
    """
    from fp4cc.driver import Request, spec_at
    from fp4cc.driver.calls import build_for, planned
    from fp4cc.driver.shapes import interesting_shapes
    from fp4cc.driver.sizes import at_sizes

    started = time.perf_counter()
    results: dict[str, list[_Run]] = {}
    warned: dict[str, None] = {}
    with progress(enabled=not as_json) as line:
        request = Request(spec_at(spec), target, sizes, kernel)
        call = at_sizes(request, call)
        line.step("checking and lowering the spec")
        found = planned(request)
        shapes = {kernel.name: interesting_shapes(manifest, call) for kernel, manifest in found}
        lowered = [kernel for kernel, _ in found]
        for built in build_for(request, shapes, lowered, prepared=True, use_cache=not no_cache, step=line.step).kernels:
            results[built.name] = list(
                _runs(built, device, shapes[built.name], delays, seed, line, _Judged(order, dict(checks), warned))
            )
    equal = all(run.equal for runs in results.values() for run in runs)
    if as_json:
        kernels = {name: [run.json() for run in runs] for name, runs in results.items()}
        print_json({"ok": equal, "target": target, "kernels": kernels, "warnings": list(warned)})
        return 0 if equal else 1
    for name, runs in results.items():
        click.echo(f"{name} for {target}")
        click.echo("\n".join(table([r.row for r in runs], ["sizes", "mode", "time", "result"], indent="  ")))
        for problem in (text for r in runs for text in r.problems):
            click.echo(f"  {problem}")
    for warning in warned if order != "strict" or checks else ():
        click.echo(f"warning: {warning}")
    count = sum(map(len, results.values()))
    seconds = time.perf_counter() - started
    verdict = "every run equals the reference, bit for bit" if equal else "NOT verified"
    click.echo(f"{count} runs in {seconds:.1f} s: {verdict}")
    return 0 if equal else 1


def _runs(
    built: BuiltKernel,
    device: str,
    shapes: list[dict[str, int]],
    delays: int,
    seed: int,
    line: Progress,
    judged: _Judged,
) -> Iterator[_Run]:
    from fp4cc.driver import artifact_of
    from fp4rt.errors import KernelFault
    from fp4rt.inputs import random_inputs
    from fp4rt.trial import run_trial

    artifact = artifact_of(built)
    reference = artifact.load_kernel("reference")
    kernel = artifact.load_kernel(device)
    emulated = kernel.device == "emulator"
    plans: list[tuple[str, Kernel, list[dict[str, int]]]]
    if emulated:
        plans = [("emulator, at once", _emulated(artifact, "immediate", 0, judged), shapes)]
        for i in range(delays):
            # A shape or two for each seed: the delays matter, not the residues again.
            chosen = [shapes[0], shapes[1 + i % (len(shapes) - 1)]] if len(shapes) > 1 else shapes
            delayed = _emulated(artifact, "delayed", seed + i, judged)
            plans.append((f"emulator, delays of seed {seed + i}", delayed, chosen))
        if any(launch.dependent for launch in artifact.manifest.launches()):
            first = _emulated(artifact, "immediate", 0, judged, overlap=True)
            drawn = _emulated(artifact, "delayed", seed, judged, overlap=True)
            plans += [("emulator, overlapped", first, shapes), ("emulator, overlapped in turns", drawn, shapes[:1])]
    else:
        plans = [(kernel.device, kernel, shapes)]
    runs = [(mode, loaded, dims, "") for mode, loaded, chosen in plans for dims in chosen]
    runs += [
        (f"{mode}, {made.arg} prepared", loaded, dims, made.arg)
        for made in artifact.manifest.prepared
        for mode, loaded, chosen in plans
        for dims in chosen
        if loaded.resolve(dims, frozenset((made.arg,))).takes
    ]
    for done, (mode, loaded, dims, arg) in enumerate(runs, 1):
        line.step(f"{built.name}, run {done} of {len(runs)}: {sizes_text(dims)}, {mode}")
        inputs = random_inputs(artifact.manifest, dims, seed)
        try:
            if arg:
                inputs[arg] = loaded.prepare(**{arg: inputs[arg]})
            trial = run_trial(loaded, reference, inputs, dims)
        except KernelFault as fault:
            yield _Run(mode, dims, None, fault.message)
        else:
            yield _Run(mode, dims, trial)


def _emulated(
    artifact: Artifact, mode: Literal["immediate", "delayed"], seed: int, judged: _Judged, *, overlap: bool = False
) -> Kernel:
    from fp4rt.devices.emulator import EmulatorDevice
    from fp4rt.kernel import Kernel

    order = None if overlap else judged.order
    device = EmulatorDevice(mode=mode, seed=seed, sms=_FEW_SMS, order=order, checks=judged.checks, overlap=overlap)
    device.warnings = judged.warned
    return Kernel(artifact, device)
