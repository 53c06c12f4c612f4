"""The lowered kernel: one class, made of parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from fp4cc.ir.kernel import Constraint, Expr, Kernel, Schedule
from fp4cc.ir.lowered.feeds import Load, Mainloop
from fp4cc.ir.lowered.problem import Problem
from fp4cc.ir.lowered.promotion import Promotion
from fp4cc.ir.lowered.resources import Cluster, Launch, Smem, Tile, Walk
from fp4cc.ir.lowered.rings import NamedBarrier, Pipeline, RoleName, WarpRole
from fp4cc.ir.lowered.split import Split
from fp4cc.ir.lowered_converters import Converters
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.ir.part import Part
from fp4rt.manifest import TensorMap

E = TypeVar("E")
Overlap = Literal["no", "early", "late"]


class Engine(Protocol):
    """What multiplies: a frozen dataclass of its own (`Tcgen05`, `Wgmma`), found by its name."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where a tile's sums lie for the epilogue to read: rows `pitch` bytes apart in a buffer of shared memory.

    `between`: other threads read them than have written them, so that the epilogue's warps meet before each tile's.
    """

    buffer: str
    pitch: int
    between: bool


@dataclass(frozen=True, slots=True)
class FewRows(Exchange):
    """One of `rows` rows only, the last of them of zeros: threads of later rows read it too."""

    rows: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice, why, and what else there was, for `explain`. `chosen_by`: the schedule block or the compiler."""

    what: str
    chosen: str
    why: str
    alternatives: tuple[str, ...] = ()
    chosen_by: Literal["schedule", "compiler", "target"] = "compiler"


@dataclass(frozen=True, slots=True)
class Marked:
    """A plan in which marks (`fp4cc.marks`) stand for names; `names` has the name of each mark, by its number."""

    plan: LoweredKernel
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What is launched once for the argument `arg`, and leaves `bytes` in a buffer of their own.

    `unfit`: at which byte it leaves how many rows it could not make, as a u32; 0 where the buffer may be used.
    """

    arg: str
    bytes: Expr
    unfit: Expr
    launch: LoweredKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredKernel:
    """A kernel with every number decided, made of parts that do not depend on one another.

    `problem` and `engine`: what is multiplied, and what multiplies it; None where nothing is. A tile's `mainloops` run
    one after the other through the same ring of stages. `promotion`: where f32 scales meet the sums, whatever the
    engine. `split`: how K is shared by CTAs, if it is. `walk`: the way over the tiles. `exchange`: where a tile's
    sums cross to the epilogue, if they do not stay where the engine has made them.

    `when`: this plan applies where it holds (None: always). `variants`, first match first, come before this plan; each
    is complete, has a `when`, and no variants of its own. `constraints` are the ones derived here, beyond `kernel`'s.
    `before` and `after`: what the same call launches first, and what next; `role` then says in words what this part of
    the kernel does. `prepared`: plans that read an argument as its `preparation` has left it, each complete and with a
    `when`; a call on an argument that is prepared takes the first that applies. `whole` is the kernel as it is in the
    spec. `marked`: the same plan with marks for the user's names, for those who print it.
    `overlap`: whether it may begin while the launch before it still runs, and when it lets the next one begin.
    `clocks`: its time in the model but for DRAM, in clocks of an SM (None where there is no model of the engine).
    `many`: its plans are made for lists of problems too.
    """

    name: str
    target: str
    kernel: Kernel
    schedule: Schedule | None
    tile: Tile
    cluster: Cluster
    walk: Walk
    roles: tuple[WarpRole, ...]
    smem: Smem
    tensor_maps: tuple[TensorMap, ...]
    epilogue: EpilogueProgram
    launch: Launch
    constraints: tuple[Constraint, ...]
    decisions: tuple[Decision, ...]
    problem: Problem | None = None
    mainloops: tuple[Mainloop, ...] = ()
    engine: Engine | None = None
    promotion: Promotion | None = None
    split: Split | None = None
    pipeline: Pipeline | None = None
    converters: Converters | None = None
    exchange: Exchange | None = None
    named_barriers: tuple[NamedBarrier, ...] = ()
    when: Expr | None = None
    variants: tuple[LoweredKernel, ...] = ()
    before: tuple[LoweredKernel, ...] = ()
    after: tuple[LoweredKernel, ...] = ()
    prepared: tuple[LoweredKernel, ...] = field(default=(), repr=False)
    preparation: Preparation | None = field(default=None, repr=False)
    whole: Kernel | None = None
    role: str = ""
    marked: Marked | None = None
    clocks: Expr | None = field(default=None, repr=False)
    overlap: Overlap = field(default="no", repr=False)
    many: bool = field(default=False, repr=False)

    @property
    def launches(self) -> tuple[LoweredKernel, ...]:
        """What a call of this plan launches, in order."""
        return (*self.before, self, *self.after)

    @property
    def products(self) -> Problem:
        """The problem. TypeError where nothing is multiplied."""
        if self.problem is None:
            raise TypeError(f"{self.name} multiplies nothing")
        return self.problem

    @property
    def rings(self) -> Pipeline:
        """The pipeline. TypeError where there is none."""
        if self.pipeline is None:
            raise TypeError(f"{self.name} has no pipeline")
        return self.pipeline

    @property
    def loads(self) -> tuple[Load, ...]:
        """What TMA brings, of all mainloops."""
        return tuple(load for mainloop in self.mainloops for load in mainloop.loads)

    def load(self, part: Part) -> Load:
        """The first load of a part of a stage; KeyError if there is none."""
        for load in self.loads:
            if load.part == part:
                return load
        raise KeyError(part)

    def engine_as(self, kind: type[E]) -> E:
        """The engine, of that class. TypeError for another."""
        if not isinstance(self.engine, kind):
            raise TypeError(f"{self.name} has not the engine {kind.__name__}")
        return self.engine

    @property
    def crossing(self) -> Exchange:
        """The exchange. TypeError where sums stay where they are made."""
        if self.exchange is None:
            raise TypeError(f"{self.name} has no exchange of sums")
        return self.exchange

    def role_of(self, name: RoleName) -> WarpRole:
        """The warps of a role; KeyError if there are none."""
        for each in self.roles:
            if each.name == name:
                return each
        raise KeyError(name)

    def named_barrier(self, name: str) -> NamedBarrier:
        """The barrier of that name; KeyError if there is none."""
        for each in self.named_barriers:
            if each.name == name:
                return each
        raise KeyError(name)
