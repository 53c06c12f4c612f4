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
from fp4num import BlockFormat
from fp4num.elements import element
from fp4rt.manifest import Init, Param, TensorMap

Role = Literal["A", "B"]
MmaKind = Literal["mxf4nvf4", "mxf4", "mxf8f6f4", "f16", "f8f6f4"]
Scope = Literal["kernel", "tile", "row", "column", "element"]


@dataclass(frozen=True, slots=True)
class Operand:
    """One side of a product. `rows` is M for A and N for B; `batched`: it has the batch axes (else it is shared)."""

    role: Role
    arg: str
    dtype: Scalar | BlockFormat
    rows: Expr
    batched: bool

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
        return f"{self.arg}.codes" if self.scaled else self.arg


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The elements an epilogue works on: m rows and n columns, batch times."""

    m: Expr
    n: Expr
    batch: Expr
    m_axis: str
    n_axis: str
    batch_axes: tuple[str, ...]


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

    Of plain operands `scale` is None, and there are no atoms. Else a scale atom's word holds 4 scales of a row, so it
    serves `instructions_per_atom` instructions; the scale id (the first byte used in the word) of instruction i is
    (i % instructions_per_atom) * scales_per_instruction.
    """

    kind: MmaKind
    block: int
    scale: Literal["e4m3", "e8m0"] | None
    cta_group: Literal[1, 2]
    m: int
    n: int
    k: int
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
    """The output tile of one MMA and its depth, in elements. Each CTA keeps `cta_m` rows of it, all n columns."""

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
    """The shared memory of a CTA, in the order in which the kernel allocates it. `total` and `limit` in bytes."""

    buffers: tuple[SmemBuffer, ...]
    total: int
    limit: int

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
    `release_after` sub-tiles, walking tile 0's from the right.
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
    """A ring of mbarriers. A phase ends after `arrivals` arrivals and `tx_bytes` transferred bytes."""

    name: str
    stages: int
    arrivals: int
    tx_bytes: int
    arrive: str  # who arrives, in words
    wait: str  # who waits


@dataclass(frozen=True, slots=True)
class Mainloop:
    """Steps along K that load an A and the Bs of one or several products, and multiply A by each of them.

    The products have A, K and the kind of instruction in common: `mmas`, one for each, differ in B's format at most.
    `tile_k` elements of K make a stage; its barrier counts `tx_bytes`, those of both CTAs of a pair.
    """

    products: tuple[Product, ...]
    mmas: tuple[Mma, ...]
    tile_k: int
    loads: tuple[Load, ...]
    tx_bytes: int

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
class LoadPlan:
    """How TMA brings a tile input's sub-tiles ahead of their use: slots of 32 rows in `buffer` for each warp and stage.

    `barriers` are one mbarrier for each; barrier and slot of stage j of warp w are number j * 4 + w.
    """

    tensor_map: str
    buffer: str
    barriers: str
    stages: int
    row_bytes: int
    swizzle: str


@dataclass(frozen=True, slots=True)
class EpilogueInput:
    """What the epilogue reads besides the accumulator.

    kind           param_name is
    scalar_param   an f32 by value
    device_scalar  a pointer to one element of `dtype`: a [] argument, or the tensor scale of a quantized one
    row            a pointer: one element a row ([M], [L, M]); loaded once a tile by the thread that has the row
    column         a pointer: one element a column ([N], [L, N])
    batch          a pointer: one element a batch ([L])
    tile           a pointer: one element an output element; for `inout` the same memory as the output
    points         a pointer: the signs of a Hadamard transform, along no axis of the product
    uniform        a pointer to a random state: a number in [0, 1) an element, of random stream `stream`
    dim            an i32: a size used as a number

    Element offsets are batch * batch_stride + row * row_stride + column * column_stride, 0 where it has no such axis.
    `vector`: every row of it starts on 16 bytes if this expression holds (None: never, for tile inputs only).
    `load`: TMA loads it where `vector` holds; else, or where that does not, its threads do.
    `guards`: values without axes; where they are all 0, the input (an inout's old value) counts as 0 and is not read.
    """

    name: str
    param_name: str
    kind: Literal["scalar_param", "device_scalar", "row", "column", "batch", "tile", "points", "uniform", "dim"]
    dtype: Scalar
    value: int  # index in Kernel.values of the leaf
    batch_stride: Expr = 0
    row_stride: Expr = 0
    column_stride: Expr = 0
    vector: Expr | None = None
    guards: tuple[int, ...] = ()
    stream: int = 0
    load: LoadPlan | None = None


@dataclass(frozen=True, slots=True)
class EpilogueStatement:
    """One IR value computed in the epilogue, and how often: once a kernel, tile, row, column, or for each element."""

    value: int
    scope: Scope
    name: str | None  # the name the spec gives it


@dataclass(frozen=True, slots=True)
class StorePlan:
    """How a sub-tile reaches global memory.

    `tma`: registers -> `buffer` (a 32-row slab for each epilogue warp) -> TMA store; clipped at M and N by the
    hardware. `direct`: stores by the warp, from `buffer` or, without one, from registers. `either`: `flag` (an i32
    parameter) is 1 where the row pitch lets TMA do it, else as `direct`.
    """

    via: Literal["tma", "direct", "either"]
    tensor_map: str | None = None
    flag: str | None = None
    buffer: str | None = None  # shared memory: one slot a warp and stage
    stages: int = 0
    row_bytes: int = 0
    swizzle: str = "none"


@dataclass(frozen=True, slots=True)
class QuantizePlan:
    """How an output is quantized. A block's columns lie along N (`along` "columns") or, for a transposed one, along M.

    A line is what one thread quantizes of a sub-tile: 32 elements of a row, or of a column after a transposition in
    `transpose_buffer`. `given` is the IR value of the tensor scale or amax (None: the format has no tensor scale).
    `tensor_scale_param`: a pointer to where the kernel stores the tensor scale (None: it is the input's).
    `pads`: tiles cover the padding of the scale buffer and write it; else it is filled before the launch.
    `measure`: what must be seen before a block's scale is known: a thread's line, a tile (128 columns, or rows where
    `along` is "rows"), or a whole row. Tiles and rows are walked twice (`Frame.walks`).
    """

    mode: str
    given: int | None
    along: Literal["columns", "rows"]
    line_bytes: int
    scales_param: str
    tensor_scale_param: str | None
    pads: bool
    rng: str | None = None  # the argument with the random state, where rounding is stochastic
    stream: int = 0
    transpose_buffer: str | None = None
    measure: Literal["line", "tile", "row"] = "line"


@dataclass(frozen=True, slots=True)
class ReducePlan:
    """An output that is a reduction along the columns, the rows, or both ("all").

    max and min: the output starts as a NaN, which any number replaces; integer atomics on the bits keep it exact.
    sum, mean, mean_square: 32 x 1, 1 x 32 or 32 x 32 elements make a partial sum in the workspace at `partials_param`.
    Who finishes last (counted at `tickets_param`) adds them up in their order, so that the bits do not depend on it.
    """

    kind: Literal["max", "min", "sum", "mean", "mean_square"]
    over: Literal["columns", "rows", "all"]
    partials_param: str | None = None
    tickets_param: str | None = None


@dataclass(frozen=True, slots=True)
class EpilogueOutput:
    """One stored argument. `value` is the IR value stored; strides in elements as in `EpilogueInput`.

    A quantized one (`dtype` is a format, `quantize` says how) stores the codes of `value`, which is not yet quantized;
    its strides are in bytes of codes. Of a reduced one `value` is what is reduced.
    """

    arg: str
    param_name: str
    kind: Literal["plain", "quantized", "reduced"]
    dtype: Scalar | BlockFormat
    value: int
    batch_stride: Expr
    row_stride: Expr
    column_stride: Expr
    store: StorePlan
    quantize: QuantizePlan | None = None
    reduce: ReducePlan | None = None


@dataclass(frozen=True, slots=True)
class EpilogueProgram:
    """The epilogue: leaves, the values in order (leaves and accumulators not repeated), and what is stored.

    Values are indices in `kernel`; `problem` has the columns' axis and extent as the epilogue sees them, and `tile_n`
    is the columns of a tile: all three are the lowered kernel's own, unless the product is unzipped
    (`fp4cc.passes.unzip`). Then there are two `accumulators`, one a half, and `group` is the number of adjacent columns
    of each. Otherwise there is one for each slot of the problem; a kernel without a product has none.

    `staged`: the values of scope "column" that elements use; `columns_smem` holds their f32 in
    this order, tile.n rounded up to 128 of each.
    """

    kernel: Kernel
    problem: Space
    tile_n: int
    inputs: tuple[EpilogueInput, ...]
    accumulators: tuple[int, ...]
    statements: tuple[EpilogueStatement, ...]
    outputs: tuple[EpilogueOutput, ...]
    staged: tuple[int, ...] = ()
    init: tuple[Init, ...] = ()  # what is filled before the launch
    workspace: Expr = 0  # bytes
    subtile: int = 32  # columns
    group: int | None = None  # of unzip


@dataclass(frozen=True, slots=True)
class Launch:
    """Threads of a CTA and what the kernel takes.

    `entry` is the kernel's symbol: the CuTe DSL numbers the kernels of a file, so it is the name and "_0".
    """

    entry: str
    threads: int
    params: tuple[KernelParam, ...]
    registers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice, why, and what else there was, for `explain`. `chosen_by`: the schedule block or the compiler."""

    what: str
    chosen: str
    why: str
    alternatives: tuple[str, ...] = ()
    chosen_by: Literal["schedule", "compiler", "target"] = "compiler"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredKernel:
    """A kernel with every number decided: what every family of kernels has. Persistent, a cluster to a cluster tile.

    `when`: this plan applies where it holds (None: always). `variants`, first match first, come before this plan; each
    is complete, has a `when`, and no variants of its own. `constraints` are the ones derived here, beyond `kernel`'s.
    """

    name: str
    target: str
    kernel: Kernel
    schedule: Schedule | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredGemm(LoweredKernel):
    """Products on tcgen05. Warps 0-3 run the epilogue, 4 the TMA loads, 5 the MMA.

    A tile's `mainloops` run one after the other through the same ring of stages. `mma` is the first one's.
    """

    problem: Problem
    mainloops: tuple[Mainloop, ...]
    mma: Mma
    tile: Tile
    tmem: Tmem
    pipeline: Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredElementwise(LoweredKernel):
    """A kernel without a product: an epilogue over tiles of 128 rows, with no accumulator. All four warps run it.

    `bands`: a tile has all columns, because a scale is one for a row.
    """

    bands: bool = False
