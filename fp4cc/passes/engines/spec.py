"""What an engine is to the passes: its name, what it takes, and how it plans a kernel."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fp4cc.ir.kernel import Kernel
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


@dataclass
class Engines:
    """The engines there are. Of those that accept a kernel the first one plans it."""

    known: list[EngineSpec] = field(default_factory=list[EngineSpec])

    def of(self, kernel: Kernel, target: str) -> EngineSpec:
        """The engine of a kernel. LookupError where none takes it."""
        for engine in self.known:
            if engine.accepts(kernel, target):
                return engine
        raise LookupError(f"no engine for `{kernel.name}` on {target}")

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


def multiplies(kernel: Kernel) -> bool:
    """Whether there is a product in it."""
    return any(value.op == "matmul" for value in kernel.values)
