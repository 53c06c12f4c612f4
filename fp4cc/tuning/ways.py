"""The schedules of a call: what the engines can be asked for, ranked by the model, the best few of them.

There is no list of rules here. Engines name blocks (`EngineSpec.blocks`, `variations`), lowering judges each of them,
and the formula that it leaves in the plan (`LoweredKernel.clocks`) is what `explain` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fp4cc.cache import digest
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.request import RequestError
from fp4cc.driver.stages import emit_kernel, plans_of
from fp4cc.explain.plans import call_time, label
from fp4cc.explain.work import choose, plan_for
from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.passes.choice import forms
from fp4cc.passes.choice.cases import Fields
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.plans import MOST_PLANS
from fp4cc.sema import specialize
from fp4cc.tuning.blocks import lines
from fp4cc.tuning.calls import Asked
from fp4rt.errors import RuntimeFault
from fp4rt.sizes import evaluate
from fp4rt.tuning import Call, Way

Say = Callable[[str], None]
_Sizes = tuple[tuple[str, int], ...]


def _silent(what: str) -> None:
    """No progress report."""


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A block that a kernel takes for all sizes, and its plan."""

    fields: Fields
    plan: LoweredKernel


@dataclass
class Ways:
    """The schedules of calls of one kernel, and the plans behind them.

    `plans` are what has to be compiled, by the name of their folder: kernels of one text have one name.
    """

    kernel: Kernel
    target: str
    top: int
    say: Say = _silent
    plans: dict[str, LoweredKernel] = field(default_factory=dict[str, LoweredKernel])
    _fields: dict[str, Fields] = field(default_factory=dict[str, Fields])
    _of_all: dict[_Sizes, list[_Ranked]] = field(default_factory=dict["_Sizes", "list[_Ranked]"])
    _own: dict[_Sizes, LoweredKernel] = field(default_factory=dict["_Sizes", LoweredKernel])

    def __post_init__(self) -> None:
        self.kernel = replace(self.kernel, schedules=())

    def of(self, asked: Asked) -> Call:
        """The call with its schedules: the compiler's own, the best of the model, and variations of the best one.

        Raises the runtime's error for sizes that the kernel does not take, DiagnosticError where it cannot be compiled.
        """
        kernel = self._fixed(asked)
        static = _static(kernel)
        if static not in self._own:
            self.say("lowering the compiler's own plans")
            self._own[static] = lower(kernel, self.target, MOST_PLANS)
        own = choose(self._own[static], asked.sizes).plan
        found = [self._way(own, None, asked)]
        for fields in self._ranked(kernel, asked):
            if len(found) > self.top:
                break
            self._try(kernel, fields, asked, found)
        self._try(kernel, {}, asked, found)
        best = min(found, key=lambda way: way.model or 0.0).artifact
        if best not in self._fields and len(found) > 1:  # no block asks for the compiler's own plan
            best = found[1].artifact
        most = len(found) + self.top
        for more in ENGINES.variations(self.plans[best]):
            if len(found) < most:
                self._try(kernel, {**self._fields.get(best, {}), **more}, asked, found)
        first, *others = found
        others.sort(key=lambda way: way.model or 0.0)
        return Call(asked.sizes, asked.dim, asked.low, asked.high, asked.others, (first, *others))

    def _fixed(self, asked: Asked) -> Kernel:
        """The kernel with the sizes that the spec fixes as they are asked for."""
        static = {d.name for d in self.kernel.dims if d.value is not None}
        return specialize(self.kernel, {name: size for name, size in asked.sizes.items() if name in static})

    def _ranked(self, kernel: Kernel, asked: Asked) -> list[Fields]:
        """All blocks for the call, the fastest in the model first, of equally fast ones the shorter."""
        static = _static(kernel)
        if static not in self._of_all:
            self._of_all[static] = self._everything(kernel)
        timed = [(*self._times(each.plan, asked), len(each.fields), each.fields) for each in self._of_all[static]]
        return [fields for *_, fields in sorted(timed, key=lambda each: each[:3])]

    def _times(self, plan: LoweredKernel, asked: Asked) -> tuple[float, float]:
        """Seconds of the call, and its clocks: these tell schedules apart that all wait for memory."""
        time = call_time(plan, asked.every)
        clocks = 0.0 if plan.clocks is None else float(evaluate(plan.clocks, asked.every))
        return (float("inf") if time is None else time), clocks

    def _everything(self, kernel: Kernel) -> list[_Ranked]:
        blocks = forms.blocks(kernel, self.target, ENGINES.blocks)
        found: list[_Ranked] = []
        for number, fields in enumerate(blocks, 1):
            self.say(f"lowering schedule {number} of {len(blocks)}")
            if fields:
                try:
                    found.append(_Ranked(fields, lower(_with(kernel, self.target, fields, None), self.target)))
                except DiagnosticError:  # not legal: the engine says so
                    continue
        if not found and len(blocks) == 1:
            raise RequestError(f"{kernel.name} has nothing to tune: a schedule block decides nothing of it")
        return found

    def _try(self, kernel: Kernel, fields: Fields, asked: Asked, found: list[Way]) -> None:
        """Add the block to what is found, unless it is refused under the call's condition or is one that is there."""
        try:
            made = lower(_with(kernel, self.target, fields, asked), self.target)
            way = self._way(plan_for(made, asked.every), fields, asked)
        except (DiagnosticError, RuntimeFault):
            return
        if all(way.artifact != other.artifact for other in found):
            found.append(way)

    def _way(self, plan: LoweredKernel, fields: Fields | None, asked: Asked) -> Way:
        alone = replace(plan, when=None, variants=())
        texts = {stem: emit_kernel(one) for stem, one in plans_of(alone).items()}
        name = digest({"texts": dict(texts), "launch": repr(alone.walk)})[:12]
        self.plans.setdefault(name, alone)
        if fields is not None:
            self._fields.setdefault(name, fields)
        time, _ = self._times(plan, asked)
        model = None if time == float("inf") else time
        return Way(name, None if fields is None else lines(fields), named(plan), model)


def _static(kernel: Kernel) -> _Sizes:
    """What tells two versions of a kernel apart."""
    return tuple((d.name, d.value) for d in kernel.dims if d.value is not None)


def named(plan: LoweredKernel) -> str:
    """A plan in short, with the engine that makes it."""
    engine = plan.engine.name if plan.engine is not None else "none"
    split = "" if plan.split is None else f", K in {_parts(plan)}"
    stages = "" if plan.pipeline is None else f", {plan.pipeline.stages} stages"
    once = ", converted once" if plan.before else ""
    return f"{engine}, {label(plan)}{split}{stages}{once}"


def _parts(plan: LoweredKernel) -> str:
    """The parts of K: as a block asks for them, or as sizes decide."""
    asked = None if plan.schedule is None else plan.schedule.fields.get("split_k")
    parts = asked[0] if asked is not None else None if plan.split is None else plan.split.parts
    return str(parts) if isinstance(parts, int) else "parts by size"


def _with(kernel: Kernel, target: str, fields: Fields, asked: Asked | None) -> Kernel:
    """The kernel with one block; `asked` gives it its condition."""
    when = None if asked is None else asked.condition(kernel)
    span = kernel.span
    return replace(kernel, schedules=(Schedule(target, when, fields, span, dict.fromkeys(fields, span)),))
