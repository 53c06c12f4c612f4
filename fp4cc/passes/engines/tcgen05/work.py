"""What is known of a kernel before its schedule, and what a schedule chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import Problem, Promotion
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.choice.estimate import Option, Traffic
from fp4cc.passes.choice.schedule import Ranked, Request
from fp4cc.passes.choice.split import Parts
from fp4cc.passes.engines.tcgen05.mainloops import Fit, Memory, Shared
from fp4cc.passes.feeds.scale_reading import Needs
from fp4cc.passes.problem.unzip import Frame
from fp4cc.targets import Target


@dataclass(frozen=True, slots=True)
class Work:
    """What is decided before the schedule. `parts` is the kernel with the scales of rows apart from the codes.

    `kernel` has its operands swapped where `swapped`; `parts` then also knows the condition of the plan.
    """

    kernel: Kernel
    parts: Kernel
    sizes: Sizes
    problem: Problem
    frame: Frame
    shared: tuple[Shared, ...]
    required: tuple[Constraint, ...]
    promotion: Promotion | None = None
    needs: Needs | None = None  # of the promoted scales
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What tiles need, what the time model asks of them, and the target with the tiles that there can be."""

    fit: Fit
    traffic: Traffic
    target: Target


@dataclass(frozen=True, slots=True)
class Picked:
    """A candidate's schedule (`Candidate.pick`), with the work on its kernel that it comes from."""

    work: Work
    option: Option
    offer: Offer
    parts: Parts = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """What a schedule asks for, the option that is taken, what it needs, and what else there was."""

    request: Request
    option: Option
    memory: Memory
    ranked: list[Ranked] = field(default_factory=list[Ranked])
    assumed: Mapping[str, int] = field(default_factory=dict[str, int])
    clocks: Expr | None = None
    parts: Expr = 1  # of K
