"""What an engine is to the passes: its name, what it takes, and how it plans a kernel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fp4cc.ir.kernel import Expr, Kernel, Schedule
from fp4cc.ir.lowered import LoweredKernel


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What multiplies.

    `name` is that of the engine in its plans (`Engine.name`), and of its text half in `fp4cc.codegen.engines`.
    `accepts(kernel, target)`: whether it is for kernels like this one; why it cannot build one, `plan` says itself.
    `plan(kernel, target)`: a plan for each schedule that can apply, the last of which always does. It raises
    DiagnosticError for what cannot be built, and `TooNarrow` where a launch of its own for the epilogue would help.
    """

    name: str
    accepts: Callable[[Kernel, str], bool]
    plan: Callable[[Kernel, str], list[LoweredKernel]]


@dataclass(frozen=True, slots=True)
class Special:
    """What multiplies within some sizes only, in the place of the engine that takes every size of such a kernel.

    `plan(kernel, target, when, schedule)`: a plan for calls where `when` holds and by what the schedule asks, or None
    where this is not for them; what is refused in any case is left for the other engine to refuse.
    """

    name: str
    plan: Callable[[Kernel, str, Expr | None, Schedule | None], LoweredKernel | None]


@dataclass
class Engines:
    """The engines there are. Of those that accept a kernel the first one plans it.

    Each plan then gives way to that of the first of the `special` engines which has one for the plan's sizes.
    """

    known: list[EngineSpec] = field(default_factory=list[EngineSpec])
    special: list[Special] = field(default_factory=list[Special])

    def of(self, kernel: Kernel, target: str) -> EngineSpec:
        """The engine of a kernel. LookupError where none takes it."""
        for engine in self.known:
            if engine.accepts(kernel, target):
                return engine
        raise LookupError(f"no engine for `{kernel.name}` on {target}")

    def plans(self, kernel: Kernel, target: str) -> list[LoweredKernel]:
        """The plans of a kernel, the last of which always applies. Raises as `EngineSpec.plan` does."""
        return [self._special(kernel, plan) for plan in self.of(kernel, target).plan(kernel, target)]

    def _special(self, kernel: Kernel, plan: LoweredKernel) -> LoweredKernel:
        found = (special.plan(kernel, plan.target, plan.when, plan.schedule) for special in self.special)
        return next((better for better in found if better is not None), plan)

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


def multiplies(kernel: Kernel) -> bool:
    """Whether there is a product in it."""
    return any(value.op == "matmul" for value in kernel.values)
