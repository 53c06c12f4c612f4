"""`fp4cc run`: compile, run, compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fp4cc.cli.options import (
    at_option,
    cache_option,
    device_option,
    input_option,
    json_option,
    kernel_option,
    print_json,
    seed_option,
    set_option,
    spec_argument,
    target_option,
)
from fp4cc.cli.terminal import progress, table
from fp4rt.sizes import sizes_text

if TYPE_CHECKING:
    from fp4cc.cli.terminal import Progress
    from fp4rt import Artifact, Comparison
    from fp4rt.trial import Trial
    from fp4rt.typed import Arg, TypedKernel

_EPILOG = """\b
Examples:
  fp4cc run gemm.fp4                                 random inputs, small sizes
  fp4cc run gemm.fp4 --at M=300 --at K=1024          other sizes
  fp4cc run gemm.fp4 --set M=300                     the kernel built for that M
  fp4cc run gemm.fp4 --input a=a.npy --input b=b.npz --save out
  fp4cc run gemm.fp4 --device reference              the reference alone

\b
Files given with --input:
  .npy  a plain argument, or floats that are quantized by the argument's format
  .npz  a quantized argument: codes (uint8), scales (1-D, in the layout),
        tensor_scale (float32) if the format has one


Outputs are compared bit for bit where all sums are exact in any order, as those
of random inputs are. Of other data, a place may differ as far as the order of
additions allows; such places are counted.

Exit status 1: the outputs differ from the reference. 3: no such device.
"""


@click.command(epilog=_EPILOG)
@spec_argument
@device_option
@set_option
@at_option
@input_option
@seed_option
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the outputs there: NAME.npy, or NAME.npz for quantized ones.",
)
@target_option
@kernel_option
@json_option
@cache_option
def command(
    spec: str,
    device: str,
    sizes: dict[str, int],
    call: dict[str, int],
    inputs: dict[str, Path],
    seed: int,
    save: Path | None,
    target: str,
    kernel: str | None,
    as_json: bool,
    no_cache: bool,
) -> int:
    """Compile a spec, run it on a device, and compare the result with the reference.

    Inputs that are not given are random, made so that sums are exact and the outputs can be compared bit for bit.
    """
    from fp4cc.cli.arrays import load_inputs, save_outputs, sizes_from
    from fp4cc.driver import Request, artifact_of, spec_at
    from fp4cc.driver.calls import build_for, planned_kernel
    from fp4cc.driver.interpret import interpreted
    from fp4cc.driver.request import only_kernel
    from fp4cc.driver.sizes import at_sizes, call_sizes, open_dims

    with progress(enabled=not as_json) as line:
        request = Request(spec_at(spec), target, sizes, kernel)
        call = at_sizes(request, call)
        if device == "reference":
            lowered, manifest = None, interpreted(request).manifest
        else:
            line.step("checking and lowering the spec")
            lowered, manifest = planned_kernel(request)
        typed = manifest.kernel
        given = load_inputs(typed, inputs)
        known = {**sizes_from(typed, given), **call}
        dims = call_sizes(manifest, known)
        chosen = {name: dims[name] for name in open_dims(manifest, known)[0]}
        if chosen:
            line.say(f"sizes chosen: {sizes_text(chosen)}; others with --at {next(iter(chosen))}=...")
        if lowered is None:
            artifact = interpreted(request)
        else:
            calls = {lowered.name: [dims]}
            built = build_for(request, calls, [lowered], use_cache=not no_cache, step=line.step)
            artifact = artifact_of(only_kernel(built.kernels))
        trial = _try(artifact, device, dims, seed, given, line)
    if save is not None:
        save_outputs(save, trial.outputs)
    if as_json:
        answer = {"ok": trial.equal, "kernel": artifact.manifest.kernel.name, "target": target, "chosen_sizes": chosen}
        print_json({**answer, **trial_json(trial, artifact.manifest.kernel)})
    else:
        _print(trial, artifact.manifest.kernel, target)
    return 0 if trial.equal else 1


def _try(
    artifact: Artifact, device: str, dims: dict[str, int], seed: int, given: dict[str, Any], line: Progress
) -> Trial:
    """One run of an artifact, compared with the reference unless that is the device."""
    from fp4rt.inputs import random_inputs
    from fp4rt.trial import run_alone, run_trial

    line.step(f"loading on {device}")
    loaded = artifact.load_kernel(device)
    line.step(f"running on {loaded.device}")
    arguments = {**random_inputs(artifact.manifest, dims, seed, given=given), **given}
    if loaded.device == "reference":
        return run_alone(loaded, arguments, dims)
    return run_trial(loaded, artifact.load_kernel("reference"), arguments, dims, bounded=True)


def _print(trial: Trial, kernel: TypedKernel, target: str) -> None:
    """The outputs in a table, the times, and what came of it."""
    click.echo(f"{kernel.name} for {target} on {trial.device} at {sizes_text(trial.dims)}")
    types = {arg.name: arg for arg in kernel.args}
    if trial.comparisons:
        click.echo("\n".join(table(*_rows(trial, types), indent="  ")))
        click.echo(f"{trial.device} {trial.device_seconds:.2f} s, reference {trial.reference_seconds:.2f} s")
    else:
        click.echo("\n".join(table(*_alone(trial, types), indent="  ")))
        click.echo(f"reference {trial.reference_seconds:.2f} s")
    click.echo(verdict(trial))


def verdict(trial: Trial) -> str:
    """The last line: what the comparison says."""
    if not trial.comparisons:
        return "this is the reference: nothing to compare with"
    if trial.identical:
        return "equal to the reference, bit for bit"
    if trial.equal:
        head = "equal to the reference within the bounds of sums in another order; these inputs are not exact:"
    elif any(c.wrong for c in trial.comparisons):
        head = "DIFFERENT from the reference:"
    else:
        head = "UNDECIDED: it differs from the reference where no bound is known:"
    chosen = [c for c in trial.comparisons if (c.within if trial.equal else not c.equal)]
    return "\n".join([head, *(f"  {c}" for c in chosen)])


def _how(trial: Trial) -> str:
    """What was done to compare: "none", "bits" or "bounds"."""
    if not trial.comparisons:
        return "none"
    return "bounds" if any(c.within or c.undecided for c in trial.comparisons) else "bits"


def trial_json(trial: Trial, kernel: TypedKernel | None = None) -> dict[str, Any]:
    """A trial for machines; with a kernel, outputs that were not compared are listed by name and size."""
    alone = [] if kernel is None or trial.comparisons else _alone(trial, {a.name: a for a in kernel.args})[0]
    return {
        "device": trial.device,
        "sizes": dict(trial.dims),
        "compared": _how(trial),
        "seconds": {"device": round(trial.device_seconds, 4), "reference": round(trial.reference_seconds, 4)},
        "outputs": [
            {
                "name": c.name,
                "elements": c.total,
                "different": c.different,
                "wrong": c.wrong,
                "within": c.within,
                "undecided": c.undecided,
                "reasons": list(c.reasons),
                "largest": c.largest,
                "first": None if c.first is None else list(c.first),
                "expected": c.expected,
                "found": c.found,
            }
            for c in trial.comparisons
        ]
        or [{"name": name, "elements": int(count)} for name, _, count in alone],
    }


def _rows(trial: Trial, types: dict[str, Arg]) -> tuple[list[list[str]], list[str]]:
    rows = [
        [c.name, _type(c.name, types), str(c.total), str(c.different), str(c.largest), _result(c)]
        for c in trial.comparisons
    ]
    return rows, ["output", "type", "elements", "differ", "largest, ulp", "result"]


def _result(c: Comparison) -> str:
    if c.equal:
        return "within bounds" if c.within else "equal"
    return "DIFFERS" if c.wrong else "UNDECIDED"


def _alone(trial: Trial, types: dict[str, Arg]) -> tuple[list[list[str]], list[str]]:
    """The outputs of the reference, which are compared with nothing."""
    rows = [
        [name, arg.format.name if arg.format is not None else str(arg.dtype), str(math.prod(value.shape))]
        for name, value in trial.outputs.items()
        for arg in (types[name],)
    ]
    return rows, ["output", "type", "elements"]


def _type(name: str, types: dict[str, Arg]) -> str:
    base, _, part = name.partition(".")
    arg = types[base]
    fmt = arg.format
    if fmt is None:
        return str(arg.dtype)
    return {"codes": fmt.element, "scales": str(fmt.scale), "tensor_scale": "f32"}[part]
