"""What a kernel takes of the chip, and its way over the tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered_epilogue import Groups
from fp4cc.ir.part import Part
from fp4rt.manifest import Param


@dataclass(frozen=True, slots=True)
class Tile:
    """The output tile of one MMA and its depth, in elements. Each CTA keeps `cta_m` rows of it, all n columns.

    The depth is 0 where nothing is multiplied.
    """

    m: int
    n: int
    k: int
    cta_m: int

    @property
    def ctas(self) -> int:
        """CTAs that make a tile together."""
        return self.m // self.cta_m


@dataclass(frozen=True, slots=True)
class Cluster:
    """CTAs along M and N. Pairs of a 2-CTA MMA lie along M."""

    m: int
    n: int

    @property
    def size(self) -> int:
        return self.m * self.n


@dataclass(frozen=True, slots=True)
class Persistent:
    """The way over tiles of persistent clusters, each of which takes every n-th of them.

    In bands of `band` columns (0: all), along N first within a band; then batches.
    """

    band: int
    tiles_m: Expr  # cluster tiles along M
    tiles_n: Expr
    tiles: Expr  # all of them, batches too


@dataclass(frozen=True, slots=True)
class OneEach(Persistent):
    """A CTA for each tile, in the same order: no CTA takes a second one."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """The way over the tiles of groups of rows, one group after another, and within each as `Persistent`.

    A cluster tile has `rows` rows, all of one group. How many there are is found on the device: `tiles_m` and `tiles`
    are what no call exceeds.
    """

    band: int
    tiles_m: Expr
    tiles_n: Expr
    tiles: Expr
    rows: int
    groups: Groups


Walk: TypeAlias = Persistent | Grouped


@dataclass(frozen=True, slots=True)
class SmemBuffer:
    """A buffer in shared memory: `stages` slots of `bytes`, from `offset` on. `part`: what of a stage it holds."""

    name: str
    offset: int
    bytes: int
    stages: int
    align: int
    what: str
    part: Part | None = None

    @property
    def total(self) -> int:
        return self.bytes * self.stages


@dataclass(frozen=True, slots=True)
class Smem:
    """The shared memory of a CTA, in the order in which the kernel allocates it. `total` and `limit` in bytes.

    `padding`: what a launch asks for beyond it, so that no more CTAs share an SM than its tensor memory has room for.
    """

    buffers: tuple[SmemBuffer, ...]
    total: int
    limit: int
    padding: int = 0

    @property
    def asked(self) -> int:
        """The bytes that a launch asks for."""
        return self.total + self.padding

    def buffer(self, name: str) -> SmemBuffer:
        """The buffer of that name; KeyError if there is none."""
        for buffer in self.buffers:
            if buffer.name == name:
                return buffer
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class KernelParam:
    """A parameter of the kernel: its name there, and what the runtime passes."""

    name: str
    param: Param
    what: str


@dataclass(frozen=True, slots=True)
class Size:
    """A size that the kernel uses, by its name there. One that is a number is a constant of the file, no parameter."""

    name: str
    value: Expr
    what: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Threads of a CTA and what the kernel takes.

    `entry` is the kernel's symbol: the CuTe DSL numbers the kernels of a file, so it is the name and "_0". `sizes`: all
    that the kernel uses.
    """

    entry: str
    threads: int
    params: tuple[KernelParam, ...]
    sizes: tuple[Size, ...]
    registers: tuple[tuple[str, int], ...] = ()
