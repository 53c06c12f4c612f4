"""What is asked for: a spec, a target, fixed sizes, one kernel or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from fp4cc.driver.spec import Spec
from fp4cc.plans import MOST_PLANS

NO_KERNEL = "the file has no kernel"
#: Stands among the numbers of plans for all those on prepared arguments.
PREPARED_PLANS = -1


class RequestError(ValueError):
    """The request does not fit the spec: a kernel or dimension it does not have, or a choice left open."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to build.

    `dims` fixes sizes; `kernel` picks one of the file's kernels, None means all. `plans`: how many a kernel with
    dynamic sizes gets at most. `only`: for each kernel the numbers of the plans that are wanted of those (0: the one
    that always applies, `PREPARED_PLANS`: those on prepared arguments; None: all): what is built then serves the calls
    that take these plans, and no others. `many`: for lists of problems too (`Kernel.many`).
    """

    spec: Spec
    target: str = "sm_100a"
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    kernel: str | None = None
    plans: int = MOST_PLANS
    only: Mapping[str, tuple[int, ...]] | None = None
    many: bool = False


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def only_kernel(kernels: Sequence[N]) -> N:
    """The kernel of a file that has one; RequestError otherwise, with the names to choose from."""
    if len(kernels) == 1:
        return kernels[0]
    if not kernels:
        raise RequestError(NO_KERNEL)
    raise RequestError(f"the file has the kernels {', '.join(k.name for k in kernels)}: choose one with --kernel")
