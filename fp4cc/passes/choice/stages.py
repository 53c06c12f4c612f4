"""How many stages the ring in shared memory has: decided here for every engine."""

from __future__ import annotations

from collections.abc import Callable

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.cases import Fields


def asked_stages(schedule: Schedule | None) -> int | None:
    """The stages that a schedule block asks for; None where it leaves them to the compiler."""
    asked = schedule.fields.get("stages", ("auto",))[0] if schedule is not None else "auto"
    return asked if isinstance(asked, int) else None


def fewer_stages(plan: LoweredKernel) -> list[Fields]:
    """The fields by which blocks ask for one or two stages fewer than a plan has: what is saved another CTA may use."""
    stages = 0 if plan.pipeline is None else plan.pipeline.stages
    return [{"stages": (count,)} for count in (stages - 1, stages - 2) if count >= 1]


def choose_stages(
    kernel: Kernel,
    schedule: Schedule | None,
    fitting: Callable[[int], int],
    most: int,
    *,
    least: int = 1,
    even: bool = False,
    taken: str | None = None,
    otherwise: str = "store fewer outputs",
) -> int:
    """The stages asked for, or as many as fit, up to `most`.

    `fitting(n)` is how many fit of n; with fewer than `least` the engine would wait for itself. Raises DiagnosticError
    (FP5012) for others, and for odd ones where two warpgroups take them in turns (`even`): `taken` says what takes the
    memory, `otherwise` what to do where not even one stage fits.
    """
    asked = asked_stages(schedule)
    fits = fitting(max(most, asked or 0))
    span = schedule.field_spans.get("stages", schedule.span) if schedule is not None else kernel.span
    if even and asked is not None and asked % 2:
        raise DiagnosticError([
            error("FP5012", f"{asked} stages do not do: two warpgroups take them in turns", span, "an odd number",
                  help=f"write `stages {asked + 1 if asked < fits else asked - 1}` or `stages auto`"),
        ])  # fmt: skip
    if least <= (asked or least) <= fits:
        found = asked or min(fits, most)
        return found - found % 2 if even else found
    if asked is not None and asked < least <= fits:
        stages = "1 stage does" if asked == 1 else f"{asked} stages do"
        raise DiagnosticError([
            error("FP5012", f"{stages} not do: one is multiplied while the next is loaded", span,
                  f"at least {least}", help=f"write `stages {least}` or `stages auto`"),
        ])  # fmt: skip
    raise DiagnosticError([
        error("FP5012", f"{asked or least} stages do not fit in shared memory", span, taken or f"at most {fits} fit",
              help=f"write `stages {fits}` or `stages auto`" if fits >= least else otherwise),
    ])  # fmt: skip
