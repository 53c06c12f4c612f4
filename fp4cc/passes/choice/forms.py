"""The forms of a kernel that are planned: as it is written, and with its left operand converted once a call.

Both compute the same. Where no schedule block decides, the table over sizes compares the engines' candidates for either
form; a block says `convert once` or, as if it said nothing of it, `convert tile`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from fp4cc.diagnostics import DiagnosticError, error
from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import Decision, LoweredKernel
from fp4cc.ir.sizes import Sizes, ceildiv, fold, mul
from fp4cc.passes.choice.cases import Fields
from fp4cc.passes.rewrites.converted import can_turn, converted, why_not_converted
from fp4cc.passes.rewrites.launches import precede
from fp4cc.passes.rewrites.split import Split
from fp4cc.targets.sm90 import SM90A
from fp4rt.sizes import text

FIELD, ONCE = "convert", "once"
#: Clocks of one more launch, and bytes of a clock, of the launch that converts: measured (benchmarks/hopper.md).
_LAUNCH_CLOCKS, _BYTES_PER_CLOCK = 4400, 1310


@dataclass(frozen=True, slots=True)
class Form:
    """A kernel as engines plan it. `parts`: where an operand is converted once, the two kernels that it is."""

    kernel: Kernel
    parts: Split | None = None

    @property
    def clocks(self) -> Expr:
        """The time of what is launched before, in clocks of an SM."""
        if self.parts is None:
            return 0
        sizes = Sizes.of(self.kernel.dims)
        (wide,) = self.parts.carried
        numbers = mul(*(sizes(axis.extent) for axis in wide.axes))
        fmt = self.parts.first.args[0].format
        read = 8 if fmt is None else fmt.bits  # without a format it is FP8
        return fold("add", ceildiv(mul(numbers, 16 + read), 8 * _BYTES_PER_CLOCK), _LAUNCH_CLOCKS)

    def plan(
        self, kernel: Kernel, plan: LoweredKernel, schedule: Schedule | None, first: LoweredKernel | None
    ) -> LoweredKernel:
        """A plan of this form's kernel as one of the whole kernel, with `first` launched before it where there are two.

        `schedule`: the block as it is written.
        """
        if self.parts is None or first is None:
            return plan if schedule is None else replace(plan, schedule=schedule)
        decision = _decision(self.kernel, self.parts, "compiler" if schedule is None else "schedule")
        plan = replace(
            plan,
            decisions=(*plan.decisions, decision),
            schedule=schedule,
            clocks=None if plan.clocks is None else fold("add", plan.clocks, self.clocks),
        )
        return precede(kernel, self.parts, first, plan)


def _decision(kernel: Kernel, parts: Split, chosen_by: Literal["schedule", "compiler"]) -> Decision:
    """Why an operand is converted once, and what that takes."""
    (wide,) = parts.carried
    sizes, fmt = Sizes.of(kernel.dims), kernel.arg(wide.name).stands_for
    size = text(mul(*(sizes(axis.extent) for axis in wide.axes), 2))
    why = (
        f"every tile of a row of tiles would convert the same rows{'' if fmt is None else f' of {fmt.name}'}; a launch "
        f"before the product does it for all of them, and leaves {wide.name} in the workspace: {size} bytes"
    )
    if wide.turned:
        why += ", of each 32 columns in the order in which lanes read eight-bit weights"
    return Decision("conversion", "once a call", why, ("`convert tile`: one launch, no workspace",), chosen_by)


@dataclass(frozen=True, slots=True)
class Forms:
    """Those of a kernel for a target. `why_not`: why there is none that converts an operand once.

    `turned`: the same with the operand's columns as an engine may want them (`fp4cc.ir.turned`); others refuse it.
    """

    kernel: Kernel
    written: Form
    once: Form | None
    why_not: str
    turned: Form | None = None

    @classmethod
    def of(cls, kernel: Kernel, target: str) -> Forms:
        """The forms. Blocks lie with the form that they ask for, without saying so."""
        if target != SM90A.name or not any(value.op == "matmul" for value in kernel.values):
            return cls(kernel, Form(kernel), None, f"{target} converts no operands")
        asked = [schedule for schedule in kernel.schedules if schedule.target == target and _asks(schedule)]
        written = kernel
        if any(FIELD in schedule.fields for schedule in kernel.schedules):
            others = (schedule for schedule in kernel.schedules if schedule not in asked)
            written = replace(kernel, schedules=tuple(_without(schedule) for schedule in others))
        why_not = why_not_converted(kernel)
        if why_not is not None:
            return cls(kernel, Form(written), None, why_not)
        source = replace(kernel, schedules=tuple(_without(schedule) for schedule in asked))
        once, turned = converted(source), converted(source, turned=True) if can_turn(source) else None
        return cls(kernel, Form(written), Form(once.second, once), "",
                   None if turned is None else Form(turned.second, turned))  # fmt: skip

    @classmethod
    def alone(cls, kernel: Kernel, target: str) -> Forms:
        """The kernel as it is written, whose left operand a launch before has made."""
        asked = any(schedule.target == target and _asks(schedule) for schedule in kernel.schedules)
        if any(FIELD in schedule.fields for schedule in kernel.schedules) and not asked:
            kernel = replace(kernel, schedules=tuple(_without(schedule) for schedule in kernel.schedules))
        return cls(kernel, Form(kernel), None, "its left operand is made by a launch before")

    def of_block(self, schedule: Schedule | None) -> tuple[Form, Schedule | None]:
        """The form that a block asks for, and the block without saying so.

        Raises DiagnosticError (FP5013) for one that there is not.
        """
        if schedule is None or self.written.kernel is self.kernel:
            return self.written, schedule
        if not _asks(schedule):
            return self.written, _without(schedule)
        if self.once is None:
            raise DiagnosticError([
                error("FP5013", f"`convert once` does not serve this kernel: {self.why_not}",
                      schedule.field_spans[FIELD], "asked for here", help="leave it out"),
            ])  # fmt: skip
        return self.once, _without(schedule)


def blocks(kernel: Kernel, target: str, of: Callable[[Kernel, str], list[Fields]]) -> list[Fields]:
    """What schedule blocks can ask of a kernel in either form; `of`: what they can ask of one as it is written."""
    once = Forms.of(kernel, target).once
    asked: Fields = {FIELD: (ONCE,)}
    return [*of(kernel, target), *([] if once is None else [{**asked, **more} for more in of(once.kernel, target)])]


def _asks(schedule: Schedule) -> bool:
    return schedule.fields.get(FIELD) == (ONCE,)


def _without(schedule: Schedule) -> Schedule:
    fields = {name: values for name, values in schedule.fields.items() if name != FIELD}
    return replace(schedule, fields=fields) if FIELD in schedule.fields else schedule
