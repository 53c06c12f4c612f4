"""What an engine says of a plan, for `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Timing:
    """What the timing model of `explain` asks of an engine: an instruction's CTAs and K, its rate on an SM.

    `overlapped`: the epilogue of a tile runs beside the mainloop of the next.
    """

    cta_group: Literal[1, 2]
    mma_k: int
    flop_per_clock: int
    overlapped: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine says of a plan, for `explain`.

    `timing`: None where there is no model of its time, but for `flop_per_clock`, an SM's rate (0: not known), and why
    it is `slower` than that. `stages`: what there is beside them, in words. `tensor_memory`: columns in use and
    allocated, and the same in words.
    """

    timing: Timing | None = None
    flop_per_clock: int = 0
    slower: str = ""
    stages: str = ""
    tensor_memory: tuple[int, int, str] | None = None
