"""The shape of a target's data sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fp4cc.ir.lowered import MmaKind
from fp4rt.timing import values

#: Seconds to launch a kernel from a CUDA graph: part of every call.
LAUNCH = values("sm_100a")["launch_seconds"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A tcgen05.mma kind (PTX ISA, tcgen05.mma, kinds and block scaling).

    `formats` maps an element type to its number in the instruction descriptor. `blocks` maps a scale block (elements
    along K) to the scale types it takes: none for a kind without block scaling. An instruction takes `k` elements of K.
    `padded`: elements of under 8 bits lie one in each byte of shared memory (16 elements in 16 bytes), so every element
    costs a byte there.
    """

    name: MmaKind
    formats: Mapping[str, int]
    blocks: Mapping[int, tuple[str, ...]]
    k: int
    padded: bool
    flop_per_clock: int  # of one SM, dense


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured or published rates, for estimates only. Clocks in GHz, bandwidths in bytes a second or a clock."""

    sms: int
    clock_ghz: float
    dram_bytes_per_s: float
    l2_bytes: int
    smem_fill_bytes_per_clock: float  # L2 to shared memory by TMA, one SM
    choice_dram_bytes_per_s: float  # what plans are chosen by
    power: float = 0.0  # part of the clock that is lost where the tensor cores are busy all the time
    clock_floor: float = 1.0  # the least part of it that is left

    def clock(self, busy: float) -> float:
        """Hertz that power leaves where the tensor cores are busy for a part of the time."""
        return self.clock_ghz * 1e9 * max(self.clock_floor, 1.0 - self.power * min(busy, 1.0))

    @classmethod
    def of(cls, target: str) -> Rates:
        """Those of the file of parameters (`fp4rt.timing`)."""
        found = values(target)
        return cls(
            sms=int(found["sms"]),
            clock_ghz=found["base_clock_ghz"],
            dram_bytes_per_s=found["dram_bytes_per_s"],
            l2_bytes=int(found["l2_size"]),
            smem_fill_bytes_per_clock=found["fill_bytes_per_clock"],
            choice_dram_bytes_per_s=found["choice_dram_bytes_per_s"],
            power=found["closed_power"],
            clock_floor=found["clock_floor"],
        )


class Chip(Protocol):
    """What every target says of itself, with a block-scaled tensor core or without."""

    @property
    def name(self) -> str: ...

    @property
    def smem_bytes(self) -> int:
        """Shared memory a CTA can have."""
        ...

    @property
    def rates(self) -> Rates: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU target. Shared memory in bytes a CTA, tensor memory in columns."""

    name: str
    kinds: tuple[Kind, ...]  # with block scaling
    plain_kinds: tuple[Kind, ...]  # without
    scale_formats: Mapping[str, int]  # scale type -> number in the instruction descriptor
    smem_bytes: int
    smem_sm_bytes: int  # of an SM, for all its CTAs
    smem_reserved_bytes: int  # what the system takes of it for each CTA
    sm_threads: int  # that an SM holds
    tmem_columns: int
    cta_rows: int  # accumulator rows (tensor memory lanes) of a CTA
    tile_n: tuple[int, ...]  # of any operands
    narrow_n: tuple[int, ...]  # further ones, which cut scale atoms of B
    tile_k_bytes: int  # of a row of a stage in shared memory: one swizzle row
    cluster_max: int
    cluster_shapes: tuple[tuple[int, int], ...]  # the compiler's own choices, CTAs along M x N
    stages_max: int
    rates: Rates

    def kind(self, name: str) -> Kind:
        """The kind of that name; KeyError if there is none."""
        for kind in (*self.kinds, *self.plain_kinds):
            if kind.name == name:
                return kind
        raise KeyError(name)
