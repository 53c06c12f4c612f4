"""A call of a kernel: compiled, recorded on the emulator, replayed in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fp4cc.backend.elf import resource_usage
from fp4cc.driver import artifact_of
from fp4cc.driver.build import Step
from fp4cc.driver.calls import build_for, planned_kernel
from fp4cc.driver.request import Request, RequestError, only_kernel
from fp4cc.explain.report import call_seconds, roofline_seconds
from fp4cc.explain.work import Chosen, choose
from fp4rt.sizes import evaluate
from fp4rt.timing import Parameter, parameters, values

if TYPE_CHECKING:
    from fp4rt.timing.emulator import Predicted


@dataclass(frozen=True, slots=True)
class Traced:
    """A call in time. Seconds; `closed` is what `explain`'s formula says, None where it has none."""

    kernel: str
    target: str
    chosen: Chosen
    launches: tuple[Predicted, ...]
    roofline: float
    closed: float | None
    tiles: int

    @property
    def seconds(self) -> float:
        """Of all launches, one after the other."""
        return sum(one.seconds for one in self.launches)

    @property
    def efficiency(self) -> float:
        """The roofline as a part of the time."""
        return self.roofline / self.seconds if self.seconds else 0.0

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What it goes by."""
        return parameters(self.target)

    def json(self) -> dict[str, Any]:
        """The figures for machines: seconds, clocks, parts."""
        return {
            "kernel": self.kernel,
            "target": self.target,
            "sizes": dict(self.chosen.sizes),
            "assumed": list(self.chosen.assumed),
            "seconds": self.seconds,
            "roofline_seconds": self.roofline,
            "efficiency": self.efficiency,
            "closed_form_seconds": self.closed,
            "median_error": self.parameters["trace_error"].value,
            "launches": [launch_json(one) for one in self.launches],
        }


def launch_json(one: Predicted) -> dict[str, Any]:
    """A launch for machines."""
    line, recorded = one.timeline, one.recorded
    return {
        "entry": one.entry,
        "seconds": one.seconds,
        "cycles": one.cycles,
        "clock_ghz": one.clock_ghz,
        "limit": line.limit,
        "busy": dict(line.busy),
        "stalls": dict(line.stalls),
        "sampled": recorded.sampled,
        "units": {"recorded": recorded.samples[-1][0], "of_an_sm": recorded.units},
        "active_sms": recorded.active,
        "resident_clusters": recorded.resident,
    }


def traced(request: Request, call: Mapping[str, int], tiles: int, *, use_cache: bool, step: Step) -> Traced:
    """Compile the plan that a call takes, and say when what would happen. RequestError where nothing is launched."""
    from fp4rt.timing.emulator import predict, record

    step("checking and lowering the spec")
    lowered, _ = planned_kernel(request)
    chosen = choose(lowered, call)
    if not any(int(evaluate(one.walk.tiles, chosen.sizes)) for one in chosen.plan.launches):
        raise RequestError(f"a call of {lowered.name} with these sizes launches nothing: there is no time to show")
    built = build_for(request, {lowered.name: [chosen.sizes]}, [lowered], use_cache=use_cache, step=step)
    kernel = only_kernel(built.kernels)
    usage = {entry: use for n, data in kernel.files.items() if n.endswith(".cubin")
             for entry, use in resource_usage(data).items()}  # fmt: skip
    rates = values(request.target)
    step("running a part of it on the emulator")
    registers = {entry: use.registers for entry, use in usage.items()}
    recorded = record(artifact_of(kernel), chosen.sizes, rates, tiles=tiles, registers=registers)
    step("replaying it in time")
    found = tuple(predict(recorded, rates, keep=True))
    plan, sizes = chosen.plan, chosen.sizes
    return Traced(
        lowered.name, request.target, chosen, found, roofline_seconds(plan, sizes), call_seconds(plan, sizes), tiles
    )
