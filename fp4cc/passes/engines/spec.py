"""What an engine is to the passes: its name, what it takes, what it would cost, and how it plans a kernel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Kernel, Schedule
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.cases import Bounds, Candidate, Case, Fields
from fp4cc.passes.choice.facts import Facts


def no_candidates(kernel: Kernel, target: str) -> list[Candidate]:
    """Of an engine without a model: one plan for every size."""
    del kernel, target
    return []


def no_blocks(kernel: Kernel, target: str) -> list[Fields]:
    """Of an engine that takes a block without fields alone."""
    del kernel, target
    return []


def no_variations(plan: LoweredKernel) -> list[Fields]:
    """Of an engine where a block decides nothing that its model does not know."""
    del plan
    return []


def obeys_all(_schedule: Schedule | None) -> bool:
    """Of an engine that says itself what is wrong with a schedule block."""
    return True


def no_facts(_lowered: LoweredKernel) -> Facts:
    """Of an engine with nothing to say to `explain`."""
    return Facts()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What multiplies.

    `name` is that of the engine in its plans (`Engine.name`), and of its text half in `fp4cc.codegen.engines`.

    `accepts(kernel, target, bounds)`: whether it is for kernels like this one, called with sizes within `bounds`; why
    it cannot build one, `plan` says itself. An engine for few rows asks for them:

        lambda kernel, target, bounds: target == "sm_90a" and (most_rows(kernel, bounds) or 17) <= 16

    Bounds come from static dims (`--set M=8`), from `where`, and from the condition of the plan in question, whether a
    schedule block has it (`when M <= 16`) or the table over sizes.

    `plan(kernel, target, cases)`: a plan for each case, in their order, with its `when` and `schedule`. It raises
    DiagnosticError for what cannot be built, and `TooNarrow` where a launch of its own for the epilogue would help.

    `candidates(kernel, target)`: what it could do with the kernel where no schedule block decides, each with its cost
    and, for an engine of few rows, `within=("le", "M", 16)`; it is asked whether or not it accepts the kernel without
    bounds, and answers [] for kernels and targets that it never takes. The table over sizes compares the candidates of
    all engines, so that thresholds between engines come out of the model, and hands the chosen ones back as cases.

    `facts(plan)`: what `explain` says of one. `obeys(schedule)`: whether it can do what a block asks for, or has it
    judged by the next engine that accepts the kernel.

    `blocks(kernel, target)`: the fields of schedule blocks that ask for each thing it can do, as far as its model tells
    them apart; whether one is legal `plan` alone says, by refusing it. `variations(plan)`: what a block may ask for
    besides, where the model says nothing, so that it has to be measured. Both are for `fp4cc tune`.
    """

    name: str
    accepts: Callable[[Kernel, str, Bounds], bool]
    plan: Callable[[Kernel, str, Sequence[Case]], list[LoweredKernel]]
    candidates: Callable[[Kernel, str], list[Candidate]] = no_candidates
    facts: Callable[[LoweredKernel], Facts] = no_facts
    obeys: Callable[[Schedule | None], bool] = obeys_all
    blocks: Callable[[Kernel, str], list[Fields]] = no_blocks
    variations: Callable[[LoweredKernel], list[Fields]] = no_variations


@dataclass
class Engines:
    """The engines there are. Of those that accept a kernel the first one plans it."""

    known: list[EngineSpec] = field(default_factory=list[EngineSpec])

    def of(self, kernel: Kernel, target: str, bounds: Bounds, schedule: Schedule | None = None) -> EngineSpec:
        """The engine of a kernel for sizes within bounds. LookupError where none takes it."""
        for engine in self.known:
            if engine.obeys(schedule) and engine.accepts(kernel, target, bounds):
                return engine
        raise LookupError(f"no engine for `{kernel.name}` on {target}")

    def facts(self, lowered: LoweredKernel) -> Facts:
        """What the engine of a plan says of it; nothing where no engine has its name."""
        engine = self._made(lowered)
        return Facts() if engine is None else engine.facts(lowered)

    def blocks(self, kernel: Kernel, target: str) -> list[Fields]:
        """What schedule blocks can ask of any engine, and first a block without fields; some may be refused."""
        found: list[Fields] = [{}]
        for engine in self.known:
            try:
                found += engine.blocks(kernel, target)
            except DiagnosticError:  # it takes no such kernel, which another engine does
                continue
        return found

    def variations(self, plan: LoweredKernel) -> list[Fields]:
        """What a block may ask of the plan's engine besides; some may be refused."""
        engine = self._made(plan)
        return [] if engine is None else engine.variations(plan)

    def _made(self, lowered: LoweredKernel) -> EngineSpec | None:
        name = lowered.engine.name if lowered.engine is not None else "none"
        return next((engine for engine in self.known if engine.name == name), None)

    @contextmanager
    def also(self, engine: EngineSpec) -> Generator[None]:
        """One more engine for a while, before all others. ValueError where its name is taken."""
        if engine.name in {other.name for other in self.known}:
            raise ValueError(f"there is an engine {engine.name}")
        self.known.insert(0, engine)
        try:
            yield
        finally:
            self.known.remove(engine)

    @contextmanager
    def without(self, name: str) -> Generator[None]:
        """One engine fewer for a while: others then take what it would. LookupError where there is no such one."""
        place = next((i for i, engine in enumerate(self.known) if engine.name == name), None)
        if place is None:
            raise LookupError(f"no engine {name}")
        engine = self.known.pop(place)
        try:
            yield
        finally:
            self.known.insert(place, engine)


def most_rows(kernel: Kernel, bounds: Bounds) -> int | None:
    """The most rows that a product of the kernel can have; None where a call may have any number."""
    extents = {str(axis.name): axis.extent for arg in kernel.args for axis in arg.axes if axis.name is not None}
    rows = [bounds.most(extents[value.axes[-2]]) for value in kernel.values if value.op == "matmul"]
    return None if None in rows else max((n for n in rows if n is not None), default=None)
