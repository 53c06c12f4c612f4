"""What a feed is to the passes: when it is used, its plan, what it costs, and why it is there, for `explain`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fp4cc.ir.kernel import Constraint, Expr
from fp4cc.ir.lowered import Decision, Feed, LoweredKernel, Mainloop, Operand, RoleName
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.targets import Target

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of a mainloop that something must bring: an operand's codes, or its scales.

    `by`: the warps of an engine that can bring what TMA does not. `to`: the element that is multiplied. `k`: the
    operand's elements along K. A CTA's stage has `rows` of its rows and, where the instruction takes block scales,
    `atoms` of them along K (else 0); `columns` are a tile's, and `lone` is whether it is the only one along them.
    `padded`: the instruction reads elements of fewer than 8 bits unpacked.
    """

    operand: Operand
    part: Part
    by: RoleName
    to: str
    k: Expr
    rows: int
    columns: int
    atoms: int = 0
    padded: bool = False
    lone: bool = False


@dataclass
class Planning:
    """What the feeds of a kernel are planned with. `facts` are conditions that hold at every call."""

    readers: Readers
    facts: Sequence[Constraint]
    sizes: Sizes
    used: set[str] = field(default_factory=set[str])

    @property
    def needs(self) -> Needs:
        """What feeds ask of the kernel's parameters."""
        return self.readers.needs

    def name(self, arg: str) -> str:
        """A name for a feed of an argument: its own, numbered where another has it."""
        name, number = arg, 1
        while name in self.used:
            number += 1
            name = f"{arg}{number}"
        self.used.add(name)
        return name


@dataclass(frozen=True, slots=True)
class Arrival:
    """An operand that a feed brings, for its reasons; `block`: elements along K that have one scale (0: none)."""

    what: str
    lowered: LoweredKernel
    mainloop: Mainloop
    operand: Operand
    block: int
    target: Target | None = None


def _free(_feed: Any) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class FeedSpec(Generic[F]):
    """A feed.

    `kind` is that of its plans (`Feed.kind`), and of its text half in `fp4cc.codegen.feeds`. `serves`: whether it
    brings what is wanted; what none serves, TMA brings. `plan` makes it; `explain` says why it is there.
    Of converter warps: `clocks` are those of an SM that a stage of it takes, and there are `most_warps` of them at
    most, of which `most_members` share a stage.
    """

    kind: str
    serves: Callable[[Wanted, Planning], bool]
    plan: Callable[[Wanted, Planning], F]
    explain: Callable[[F, Arrival], Decision]
    clocks: Callable[[F], float] = _free
    most_warps: int = 0
    most_members: int = 0


@dataclass
class Feeds:
    """The feeds there are beside TMA. The first one that serves what is wanted brings it."""

    known: list[FeedSpec[Any]] = field(default_factory=list[FeedSpec[Any]])

    def of(self, feed: Feed) -> FeedSpec[Any]:
        """The one that has planned a feed. LookupError where none has."""
        for spec in self.known:
            if spec.kind == feed.kind:
                return spec
        raise LookupError(f"no feed {feed.kind}")

    def serving(self, wanted: Wanted, planning: Planning) -> Any | None:
        """The feed that brings what is wanted; None where TMA does."""
        found = next((spec for spec in self.known if spec.serves(wanted, planning)), None)
        return None if found is None else found.plan(wanted, planning)

    @contextmanager
    def also(self, spec: FeedSpec[Any]) -> Generator[None]:
        """One more feed for a while, before all others. ValueError where its kind is taken."""
        if spec.kind in {other.kind for other in self.known}:
            raise ValueError(f"there is a feed {spec.kind}")
        self.known.insert(0, spec)
        try:
            yield
        finally:
            self.known.remove(spec)
