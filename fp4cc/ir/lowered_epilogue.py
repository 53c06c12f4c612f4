"""The epilogue of a lowered kernel: what it reads, what it computes how often, and how results reach memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from fp4cc.ir.kernel import Expr, Kernel, Scalar
from fp4num import BlockFormat
from fp4rt.manifest import Init

P = TypeVar("P")
Scope = Literal["kernel", "tile", "row", "column", "element"]
#: Columns that an epilogue thread holds at once.
SUBTILE = 32
#: Elements that one thread quantizes at a time.
LINE = 32
#: Rows of a tile that a CTA has: one for each of its epilogue threads.
CTA_ROWS = 128
EPILOGUE_WARPS = CTA_ROWS // 32
#: Where the sub-tiles of epilogue warps are turned around, where some are.
TRANSPOSE_BUFFER = "transpose_smem"
#: Where the column values of a tile are, where some are staged.
COLUMNS_BUFFER = "columns_smem"


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows in groups, how many rows each has being known on the device alone. `axis` numbers the groups.

    `ragged`: the groups' rows follow each other, those of group e from `arg`[e] to `arg`[e + 1]. Else they are masked:
    groups are batches, and of the m rows of batch e the first `arg`[e] are used.
    """

    arg: str
    axis: str
    count: Expr
    ragged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The elements an epilogue works on: m rows and n columns, batch times. `groups`: of the rows, if any."""

    m: Expr
    n: Expr
    batch: Expr
    m_axis: str
    n_axis: str
    batch_axes: tuple[str, ...]
    groups: Groups | None = None

    @property
    def ragged(self) -> bool:
        """Whether the rows are those of groups one after another."""
        return self.groups is not None and self.groups.ragged

    @property
    def tile_axes(self) -> tuple[str, ...]:
        """The axes along which a tile has one index: those of its batch, or that of its group of ragged rows."""
        return (self.groups.axis,) if self.groups is not None and self.groups.ragged else self.batch_axes

    @property
    def indices(self) -> Expr:
        """How many batches, or groups of ragged rows, there are."""
        return self.groups.count if self.groups is not None and self.groups.ragged else self.batch


@dataclass(frozen=True, slots=True)
class Half:
    """A half of an axis, as `unzip` makes it.

    Its element i is the axis's element (i // group) * 2 * group + part * group + i % group. `group` None: the group is
    all of a half, so that one lies after the other.
    """

    part: int  # 0 or 1
    group: int | None

    @property
    def adjacent(self) -> bool:
        """Whether the columns of a sub-tile, which starts at a multiple of their number, lie side by side."""
        return self.group is None or self.group % SUBTILE == 0


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
class RowNumbersInput:
    """Where the numbers of an input's rows are: i32 elements of `arg`, placed like those of an input, `offset` further.

    `there`: how many rows there are to number. `place`: which of several numbers of a row it is (None: there is one).
    """

    arg: str
    source: str
    there: Expr
    batch_stride: Expr
    row_stride: Expr
    offset: int = 0
    place: int | None = None

    @property
    def param_name(self) -> str:
        """The pointer to them."""
        return f"{self.arg}_ptr"

    @property
    def count_name(self) -> str:
        """The parameter with the number of rows, where it is none that is known."""
        return f"{self.source}_rows_in_all"


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
    codes          a pointer to the codes of a quantized argument; offsets are of elements, `dtype` is what they become
    gathered       a pointer: a row or an element by number; `numbers` has these, `row_stride` is of what they number

    Any other is known to the construct that reads it.

    Element offsets are batch * batch_stride + row * row_stride + column * column_stride, 0 where it has no such axis.
    `vector`: every row of it starts on 16 bytes if this expression holds (None: never, for tile inputs only).
    `load`: TMA loads it where `vector` holds; else, or where that does not, its threads do.
    `guards`: values without axes; where they are all 0, the input (an inout's old value) counts as 0 and is not read.
    `offset`: elements in front of the first, of one that is picked along an axis.
    `half`: it is the half of an axis of `arg`; then `column` is not that of the epilogue but what `half` makes of it.
    """

    name: str
    param_name: str
    kind: str
    dtype: Scalar
    value: int  # index in Kernel.values of the leaf
    batch_stride: Expr = 0
    row_stride: Expr = 0
    column_stride: Expr = 0
    vector: Expr | None = None
    guards: tuple[int, ...] = ()
    stream: int = 0
    load: LoadPlan | None = None
    half: Half | None = None
    arg: str | None = None  # what it reads, where `name` is another
    numbers: RowNumbersInput | None = None
    offset: int = 0

    @property
    def source(self) -> str:
        """The argument it reads."""
        return self.arg or self.name

    @property
    def flag(self) -> str:
        """The parameter that says whether `vector` holds."""
        return f"{self.source}_vector"


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
    hardware. `direct`: stores by the warp, from `buffer` or, without one, from registers; of rows that lanes share 16
    bytes at once, if there is no `flag` or it is 1. `either`: `flag` (an i32 parameter) is 1 where the row pitch lets
    TMA do it, else as `direct`. `engine`: what multiplies stores it from its own registers, through `buffer`, by TMA
    or, where there is a `flag` and it is 0, from there. `adds`: to what is there, each element by an atomic.
    """

    via: Literal["tma", "direct", "either", "engine"]
    tensor_map: str | None = None
    flag: str | None = None
    buffer: str | None = None  # shared memory: one slot a warp and stage
    stages: int = 0
    row_bytes: int = 0
    swizzle: str = "none"
    adds: bool = False


@dataclass(frozen=True, slots=True)
class QuantizePlan:
    """How an output is quantized. A block's columns lie along N (`along` "columns") or, for a transposed one, along M.

    A line is what one thread quantizes of a sub-tile: 32 elements of a row, or of a column after a transposition in
    `transpose_buffer`. `given` is the IR value of the tensor scale or amax (None: the format has no tensor scale),
    `known` that of what is known of each line before: its scale, or the statistic that an earlier launch took.
    `tensor_scale_param`: a pointer to where the kernel stores the tensor scale (None: it is the input's).
    `pads`: tiles cover the padding of the scale buffer and write it; else it is filled before the launch.
    `aligned`: every line starts at a multiple of 16 elements, which share a group of random numbers.
    `measure`: what must be seen before a block's scale is known: a thread's line, a panel of the tile, which is walked
    twice, or nothing, because enough is known.
    """

    mode: str
    given: int | None
    known: int | None
    along: Literal["columns", "rows"]
    line_bytes: int
    scales_param: str
    tensor_scale_param: str | None
    pads: bool
    rng: str | None = None  # the argument with the random state, where rounding is stochastic
    stream: int = 0
    aligned: bool = False
    transpose_buffer: str | None = None
    measure: Literal["line", "panel", "known"] = "line"


@dataclass(frozen=True, slots=True)
class ReducePlan:
    """An output that is a reduction along the columns, the rows, or both ("all").

    amax and amax_nan: what quantizers measure, without NaN or with; the output starts as 0.
    max and min: the output starts as a NaN, which any number replaces; integer atomics on the bits keep it exact.
    sum, mean, mean_square: 32 x 1, 1 x 32 or 32 x 32 elements make a partial sum in the workspace at `partials_param`.
    Who finishes last (counted at `tickets_param`) adds them up in their order, so that the bits do not depend on it.
    """

    kind: Literal["amax", "amax_nan", "max", "min", "sum", "mean", "mean_square"]
    over: Literal["columns", "rows", "all"]
    partials_param: str | None = None
    tickets_param: str | None = None


@dataclass(frozen=True, slots=True)
class EpilogueOutput:
    """One stored argument. `value` is the IR value stored; strides in elements as in `EpilogueInput`.

    `kind`: "plain", "quantized", "reduced", or one that is known to the construct that writes it.
    `beyond`: the axes that may be empty while it has values to be written. `numbers`: of rows stored by number.
    A quantized one (`dtype` is a format, `quantize` says how) stores the codes of `value`, which is not yet quantized;
    its strides are in bytes of codes. Of a reduced one `value` is what is reduced.
    """

    arg: str
    param_name: str
    kind: str
    dtype: Scalar | BlockFormat
    value: int
    batch_stride: Expr
    row_stride: Expr
    column_stride: Expr
    store: StorePlan
    quantize: QuantizePlan | None = None
    reduce: ReducePlan | None = None
    beyond: tuple[str, ...] = ()
    numbers: RowNumbersInput | None = None

    @property
    def format(self) -> BlockFormat:
        """The format of a quantized one. TypeError for another."""
        if isinstance(self.dtype, str):
            raise TypeError(f"{self.arg} is not quantized")
        return self.dtype

    @property
    def quantization(self) -> QuantizePlan:
        """How a quantized one is quantized. TypeError for another."""
        if self.quantize is None:
            raise TypeError(f"{self.arg} is not quantized")
        return self.quantize


@dataclass(frozen=True, slots=True)
class SpreadPlan:
    """A Hadamard transform of more than the 32 points that a thread or a warp has: `value`, made in a walk of its own.

    Each thread writes its row of a panel, transformed as far as 32 points go, to `buffer` in shared memory (rows of
    `row_bytes`); the next walk reads from there the runs of 32 that make up the others. `depth` orders such transforms:
    one that takes the result of another is made a walk later.
    """

    value: int
    buffer: str
    row_bytes: int
    depth: int


class EpiloguePart(Protocol):
    """What one construct has decided and both its halves know: a frozen dataclass of its own, found by its class."""

    @property
    def clips(self) -> bool:
        """Whether the kernel must tell rows and columns past the end for it."""
        ...

    @property
    def buffers(self) -> tuple[str, ...]:
        """The buffers of shared memory that it uses."""
        ...

    @property
    def takes(self) -> tuple[int, ...]:
        """The values that its text takes by their names, other than what outputs store."""
        ...


@dataclass(frozen=True, slots=True)
class ByLanes:
    """The way over a tile in which four lanes have a row, 32 columns each, which they load and store themselves, and a
    warp eight rows at a time. Else a thread has a row, and takes 32 columns after the other.

    A tile has `steps` times the 32 rows that its warps have at a time.
    """

    steps: int = 4
    clips: bool = True
    buffers: tuple[str, ...] = ()
    takes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EpilogueProgram:
    """The epilogue: leaves, the values in order (leaves and accumulators not repeated), and what is stored.

    Values are indices in `kernel`; `problem` has the columns' axis and extent as the epilogue sees them, and `tile_n`
    is the columns of a tile: all three are the lowered kernel's own, unless something is unzipped
    (`fp4cc.passes.problem.unzip`). There is an accumulator for each slot of the problem, or, where `group` is given,
    one for each half of a slot: they take turns in groups of so many columns. A kernel without a product has none.

    `staged`: the values of scope "column" that elements use; `columns_smem` holds their f32 in
    this order, tile.n rounded up to 128 of each.

    `panel`: the columns that are walked several times before the next ones are, because something must be measured
    first; 0 where one walk over the tile is enough.

    `constructs`: the names of those that have claimed a value, an input or an output; `parts`: what else some have
    decided. `barriers`: the named barriers at which constructs have the epilogue's warps meet.
    """

    kernel: Kernel
    problem: Space
    tile_n: int
    inputs: tuple[EpilogueInput, ...]
    accumulators: tuple[int, ...]
    statements: tuple[EpilogueStatement, ...]
    outputs: tuple[EpilogueOutput, ...]
    staged: tuple[int, ...] = ()
    spread: tuple[SpreadPlan, ...] = ()
    init: tuple[Init, ...] = ()  # what is filled before the launch
    workspace: Expr = 0  # bytes
    subtile: int = SUBTILE  # columns
    panel: int = 0
    group: int | None = None  # of unzipped accumulators
    constructs: tuple[str, ...] = ()
    parts: tuple[EpiloguePart, ...] = ()
    barriers: tuple[str, ...] = ()

    @property
    def clips(self) -> bool:
        """Whether the kernel itself must tell rows and columns past the end (else TMA's clipping does)."""
        return (
            any(o.store.via != "tma" or o.quantize is not None for o in self.outputs)
            or any(i.kind in ("row", "column", "tile", "uniform", "gathered") for i in self.inputs)
            or any(part.clips for part in self.parts)
        )

    @property
    def taken(self) -> frozenset[int]:
        """The values that are there by name whatever elements use: stored ones, and what constructs take beside."""
        plans = [output.quantize for output in self.outputs if output.quantize is not None]
        beside = {value for plan in plans for value in (plan.given, plan.known) if value is not None}
        stored = (output.value for output in self.outputs)
        return frozenset(beside).union(stored, *(part.takes for part in self.parts))

    @property
    def by_lanes(self) -> bool:
        """Whether lanes share the rows of a tile: see `ByLanes`."""
        return self.steps is not None

    @property
    def steps(self) -> int | None:
        """Steps of a tile whose rows lanes share (`ByLanes`); None of others."""
        return next((part.steps for part in self.parts if isinstance(part, ByLanes)), None)

    def parts_of(self, kind: type[P]) -> list[P]:
        """The parts of a class, in order."""
        return [part for part in self.parts if isinstance(part, kind)]
