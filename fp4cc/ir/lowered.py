"""The lowered kernel: how a kernel runs on a target, with every number decided.

The passes fill this in; codegen only substitutes from it, `explain` prints it, the manifest is made from it. Sizes
that depend on dynamic dims are `Expr`; everything else is a number.

Vocabulary. A *tile* is what one MMA of the kernel makes: tile.m x tile.n of the output, tile.k deep. With `cta_group` 2
a pair of CTAs makes one tile, each CTA 128 of its 256 rows. A *cluster* is a grid of CTAs (cluster.m x cluster.n, rank
= m + n * cluster.m) whose tiles are neighbors; it takes one *cluster tile* at a time, persistently. A *stage* is one
slot of a ring in shared memory. A *sub-tile* is 32 columns of the accumulator: what an epilogue thread holds at once.

What the emitted kernel gives the epilogue (names in scope at its hooks):
    kernel   warp (0..3), lane, thread (0..127), the parameters by name, m_size, n_size
    tile     m0, n0 (this CTA's first row and column), batch, row (this thread's row: m0 + thread), row_valid
    sub-tile column (its first global column), acc (32 Float32 of this thread's row), sub-tile index `subtile`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fp4cc.ir.kernel import Constraint, Expr, Kernel, Scalar, Schedule
from fp4cc.ir.lowered_converters import Conversion, Converters
from fp4cc.ir.lowered_epilogue import EpilogueProgram, Half, Space
from fp4num import BlockFormat
from fp4num.elements import element
from fp4rt.manifest import Param, TensorMap

Role = Literal["A", "B"]
MmaKind = Literal["mxf4nvf4", "mxf4", "mxf8f6f4", "f16", "f8f6f4"]


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product; `batched`: it has the batch axes (else it is shared). `rows` is how many the argument has.

    They are M for A and N for B, unless the operand is a `half` of them: those from `first_row` on, or, where halves
    take turns, every other group of rows, the first of them at `first_row`. `source` is the buffer of a plain one.
    """

    role: Role
    arg: str
    dtype: Scalar | BlockFormat
    rows: Expr
    batched: bool
    first_row: Expr = 0
    source: str | None = None
    half: Half | None = None

    @property
    def title(self) -> str:
        """What it is, in words."""
        return self.arg if self.half is None else f"the {'second' if self.half.part else 'first'} half of {self.arg}"

    @property
    def format(self) -> BlockFormat:
        """The block format. TypeError for a plain operand."""
        if isinstance(self.dtype, str):
            raise TypeError(f"{self.arg} is {self.dtype}, not quantized")
        return self.dtype

    @property
    def scaled(self) -> bool:
        """Whether it has block scales."""
        return not isinstance(self.dtype, str)

    @property
    def name(self) -> str:
        """Its type, as the spec calls it."""
        return self.dtype if isinstance(self.dtype, str) else self.dtype.name

    @property
    def element(self) -> str:
        """The element's type."""
        return self.dtype if isinstance(self.dtype, str) else self.dtype.element

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return element(self.element).bits

    @property
    def codes(self) -> str:
        """What a tensor map of its elements reads."""
        return f"{self.arg}.codes" if self.scaled else self.source or self.arg


@dataclass(frozen=True, slots=True)
class Product:
    """One `@`: the sum over k of A[batch, m, k] * B[batch, n, k], both decoded without tensor scales.

    It is added to accumulator `slot` of the tile.
    """

    a: Operand
    b: Operand
    k: Expr
    k_axis: str
    slot: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(Space):
    """The products of a kernel, all over the same m, n and batches.

    `accumulators`: for each slot the index in `Kernel.values` of what it ends up with: a matmul, or a sum of several.
    """

    products: tuple[Product, ...]
    accumulators: tuple[int, ...]

    @property
    def a(self) -> Operand:
        """A of the first product."""
        return self.products[0].a

    @property
    def b(self) -> Operand:
        """B of the first product."""
        return self.products[0].b

    @property
    def k(self) -> Expr:
        """K of the first product."""
        return self.products[0].k

    @property
    def k_axis(self) -> str:
        """The axis that the first product contracts."""
        return self.products[0].k_axis


@dataclass(frozen=True, slots=True)
class Mma:
    """A tcgen05.mma in use. One instruction takes `k` elements of K and `scales_per_instruction` scales a row.

    `a` and `b` are the types of elements it reads, which converter warps may have made. Of plain operands `scale` is
    None, and there are no atoms. Else a scale atom's word holds 4 scales of a row, so it serves `instructions_per_atom`
    instructions; the scale id (the first byte used in the word) of instruction i is (i % instructions_per_atom) *
    scales_per_instruction.
    """

    kind: MmaKind
    block: int
    scale: Literal["e4m3", "e8m0"] | None
    cta_group: Literal[1, 2]
    m: int
    n: int
    k: int
    a: str
    b: str
    a_format: int
    b_format: int
    scale_format: int
    scales_per_instruction: int
    instructions_per_atom: int
    instructions_per_tile_k: int

    @property
    def descriptor(self) -> int:
        """The instruction descriptor (PTX ISA, tcgen05 instruction descriptor); with block scaling, scale ids are 0."""
        formats = self.a_format << 7 | self.b_format << 10 | (self.n // 8) << 17
        if self.scale is None:
            return formats | _F32_ACCUMULATOR | (self.m // 16) << 24
        return formats | self.scale_format << 23 | (self.m // 128) << 27

    @property
    def atoms(self) -> int:
        """Scale atoms along K in one stage."""
        return self.instructions_per_tile_k // self.instructions_per_atom if self.scale else 0


#: D is f32: bits 4 and 5 of the descriptor of the kinds without block scaling.
_F32_ACCUMULATOR = 1 << 4


@dataclass(frozen=True, slots=True)
class Tile:
    """The output tile of one MMA and its depth, in elements. Each CTA keeps `cta_m` rows of it, all n columns.

    The depth is 0 where nothing is multiplied.
    """

    m: int
    n: int
    k: int
    cta_m: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """CTAs along M and N. Pairs of a 2-CTA MMA lie along M."""

    m: int
    n: int

    @property
    def size(self) -> int:
        return self.m * self.n


@dataclass(frozen=True, slots=True)
class Raster:
    """The order of cluster tiles: in bands of `band` columns (0: all), along N first within a band; then batches."""

    band: int
    tiles_m: Expr  # cluster tiles along M
    tiles_n: Expr
    tiles: Expr  # all of them, batches too


@dataclass(frozen=True, slots=True)
class SmemBuffer:
    """A buffer in shared memory: `stages` slots of `bytes`, from `offset` on."""

    name: str
    offset: int
    bytes: int
    stages: int
    align: int
    what: str

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
class Tmem:
    """The tensor memory columns of a CTA (of 512, each 128 lanes x 32 bit).

    Buffer i of `acc_buffers` starts at column i * `acc_stride`; a tile's accumulators lie side by side in it, tile.n
    columns each. Scales of the B of product j of a mainloop start at `sfb` + j * `sfb_stride`. Where
    acc_stride < tile.n the two overlap: the epilogue reads the shared columns first and frees them after
    `release_after` sub-tiles (32 columns, or as many of both halves), walking tile 0's from the right.
    """

    columns: int
    acc_buffers: int
    acc_stride: int
    release_after: int
    sfa: int
    sfb: int
    sfa_columns: int  # of one scale atom along K
    sfb_columns: int
    sfb_stride: int
    end: int  # the first column not in use

    def overlapped(self, tile_n: int) -> bool:
        """Whether the two accumulators share columns."""
        return self.acc_buffers == 2 and self.acc_stride < tile_n


@dataclass(frozen=True, slots=True)
class Load:
    """One TMA load of a stage: tensor map, box and who issues it.

    The tile part a CTA needs is cut into `slices`; each CTA of the multicast group issues one (or, with 1 slice, the
    group's first CTA issues all), and it lands in all of them. `masks[rank]` is the multicast mask of what `rank`
    issues (0: it issues nothing); `slice_bytes` is what one slice writes, `tx_bytes` what the barrier counts for it.
    """

    tensor_map: str
    buffer: str
    slices: int
    slice_bytes: int
    tx_bytes: int
    masks: tuple[int, ...]

    @property
    def multicast(self) -> bool:
        """Whether it lands in more than one CTA."""
        return any(mask & (mask - 1) for mask in self.masks)


@dataclass(frozen=True, slots=True)
class Barrier:
    """A ring of mbarriers. A phase ends after `arrivals` arrivals and `tx_bytes` transferred bytes.

    `scope`: whose threads, copies and commits arrive: those of this CTA, or other CTAs' of the cluster as well. A wait
    acquires what was handed over at that scope.
    """

    name: str
    stages: int
    arrivals: int
    tx_bytes: int
    arrive: str  # who arrives, in words
    wait: str  # who waits
    scope: Literal["cta", "cluster"] = "cta"


@dataclass(frozen=True, slots=True)
class Mainloop:
    """Steps along K that load an A and the Bs of one or several products, and multiply A by each of them.

    The products have A, K and the kind of instruction in common: `mmas`, one for each, differ in B's format at most.
    `tile_k` elements of K make a stage; its barrier counts `tx_bytes`, those of both CTAs of a pair. What no load
    brings, converter warps do.
    """

    products: tuple[Product, ...]
    mmas: tuple[Mma, ...]
    tile_k: int
    loads: tuple[Load, ...]
    tx_bytes: int
    conversions: tuple[Conversion, ...] = ()

    def operand(self, buffer: str) -> Operand:
        """The operand whose codes or scales a buffer holds."""
        name = buffer.removeprefix("sf").removesuffix("_smem")
        return self.products[0].a if name == "a" else self.products[int(name[1:] or 1) - 1].b


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Loads, rings, and the multicast masks of tcgen05.commit by the rank of the issuing (leader) CTA, 0 elsewhere."""

    stages: int
    loads: tuple[Load, ...]
    barriers: tuple[Barrier, ...]
    empty_masks: tuple[int, ...]
    acc_full_masks: tuple[int, ...]

    def barrier(self, name: str) -> Barrier:
        """The ring of that name; KeyError if there is none."""
        for barrier in self.barriers:
            if barrier.name == name:
                return barrier
        raise KeyError(name)

    def load(self, buffer: str) -> Load:
        """The load that fills a buffer; KeyError if there is none."""
        for load in self.loads:
            if load.buffer == buffer:
                return load
        raise KeyError(buffer)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredKernel:
    """A kernel with every number decided: what every family of kernels has. Persistent, a cluster to a cluster tile.

    `when`: this plan applies where it holds (None: always). `variants`, first match first, come before this plan; each
    is complete, has a `when`, and no variants of its own. `constraints` are the ones derived here, beyond `kernel`'s.
    `after`: what the same call launches next; `role` then says in words what this part of the kernel does. `whole` is
    the kernel as it is in the spec. `marked`: the same plan with marks for the user's names, for those who print it.
    """

    name: str
    target: str
    kernel: Kernel
    schedule: Schedule | None
    tile: Tile
    cluster: Cluster
    raster: Raster
    smem: Smem
    tensor_maps: tuple[TensorMap, ...]
    epilogue: EpilogueProgram
    launch: Launch
    constraints: tuple[Constraint, ...]
    decisions: tuple[Decision, ...]
    when: Expr | None = None
    variants: tuple[LoweredKernel, ...] = ()
    after: tuple[LoweredKernel, ...] = ()
    whole: Kernel | None = None
    role: str = ""
    marked: Marked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredGemm(LoweredKernel):
    """Products on tcgen05. Warps 0-3 run the epilogue, 4 the TMA loads, 5 the MMA; converter warps come after them.

    A tile's `mainloops` run one after the other through the same ring of stages. `mma` is the first one's.
    """

    problem: Problem
    mainloops: tuple[Mainloop, ...]
    mma: Mma
    tmem: Tmem
    pipeline: Pipeline
    converters: Converters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredElementwise(LoweredKernel):
    """A kernel without a product: an epilogue over tiles of 128 rows, with no accumulator. All four warps run it."""
