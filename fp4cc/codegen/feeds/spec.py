"""What a feed is to codegen: what threads do for a stage of it, and the functions that they call for that."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fp4cc.codegen.fragments import Function
from fp4cc.codegen.parts import bytes_name
from fp4cc.ir.lowered import Feed, LoweredKernel, Mainloop
from fp4cc.ir.part import Part

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class CallText:
    """A call as text; `call` may assign its result."""

    call: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeedCalls:
    """What threads do for a feed: `ahead` of the first step, and in each step before and after they may go on.

    What they go on to wait for is the free stage that they fill, or the full one that they read. `only_if`: the
    condition on the warp where only some do it. `registers`: names and counts of those kept from step to step.
    """

    ahead: tuple[CallText, ...] = ()
    before: tuple[CallText, ...] = ()
    after: tuple[CallText, ...] = ()
    only_if: str | None = None
    registers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a feed's calls stand: in a mainloop of a kernel."""

    lowered: LoweredKernel
    mainloop: Mainloop

    @property
    def members(self) -> int:
        """The warps that share a stage of converter warps."""
        return members(self.lowered)


@dataclass(frozen=True, slots=True)
class FeedText(Generic[F]):
    """The text half of a feed: `kind` is that of its plans. `functions` are what its calls need beside the library."""

    kind: str
    calls: Callable[[F, Stage], FeedCalls]
    functions: Callable[[F, LoweredKernel], Sequence[Function]]


@dataclass
class FeedTexts:
    """The text halves there are, one for each kind of feed that threads bring."""

    known: list[FeedText[Any]] = field(default_factory=list[FeedText[Any]])

    def of(self, feed: Feed) -> FeedText[Any]:
        """The text half of a feed. LookupError where there is none."""
        for text in self.known:
            if text.kind == feed.kind:
                return text
        raise LookupError(f"no text of the feed {feed.kind}")

    def calls(self, feed: Feed, stage: Stage) -> FeedCalls:
        """What threads do for a feed."""
        return self.of(feed).calls(feed, stage)

    def functions(self, feeds: Sequence[Feed], lowered: LoweredKernel) -> list[Function]:
        """The functions of feeds; those that several have in common once."""
        found = (function for feed in feeds for function in self.of(feed).functions(feed, lowered))
        return list({function.name: function for function in found}.values())

    @contextmanager
    def also(self, text: FeedText[Any]) -> Generator[None]:
        """The text half of one more feed for a while. ValueError where there is one."""
        if text.kind in {other.kind for other in self.known}:
            raise ValueError(f"there is text of the feed {text.kind}")
        self.known.append(text)
        try:
            yield
        finally:
            self.known.remove(text)


def members(lowered: LoweredKernel) -> int:
    """The converter warps that share a stage."""
    return lowered.converters.members if lowered.converters else 1


def place_in_stage(part: Part) -> str:
    """The address of a part in the stage at hand."""
    return f"shared_address({part.buffer}) + stage * {bytes_name(part)}"
