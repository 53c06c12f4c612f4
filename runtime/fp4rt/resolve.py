"""A manifest's plan with every size a number: what a device needs for one call, computed once for each set of dims.

Checks here what depends on sizes alone: the constraints, that integer parameters fit, and that no tensor map, fill or
pointer reaches outside its buffer.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fp4num.groups import buffer_size
from fp4rt import sizes
from fp4rt.arrays import ITEM_SIZE
from fp4rt.derived import Known
from fp4rt.errors import ArtifactError, ConstraintError, DimensionError
from fp4rt.manifest import MAP_DTYPES, Launch, Manifest, Param, PersistentGrid, Plan, Prepared, TensorMap, making
from fp4rt.plan import WORKSPACE, Init, prepared_buffer
from fp4rt.strict import Expr
from fp4rt.typed import Arg, Constraint, TypedKernel, shape_of

#: Dims in the order of the kernel's declaration: the key of the cache of resolved plans.
Key: TypeAlias = tuple[int, ...]


class ResolvedMap(NamedTuple):
    """A tensor map with numbers. `active` is False where it is not encoded and the parameter is zero bytes."""

    name: str
    source: str
    byte_offset: int
    dtype: str
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: str
    l2: str
    fill: str
    active: bool


class ResolvedParam(NamedTuple):
    """A parameter: `value` for integers, `source` (+ `byte_offset`) for the rest; `align` of a pointer in bytes."""

    kind: str
    offset: int
    size: int
    source: str
    value: int
    byte_offset: int
    align: int


@dataclass(frozen=True, slots=True)
class ResolvedLaunch:
    """A launch: `tiles` for a persistent grid (the device decides how many clusters), else the `grid`.

    `dependent`: it may begin while the one before still runs. `over_list`: the module of the kernel for lists of
    problems ("": there is none), and `work` the time of a tile among theirs.
    """

    index: int
    entry: str
    module: str
    tiles: int | None
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    cluster: tuple[int, int, int]
    smem: int
    params: tuple[ResolvedParam, ...]
    dependent: bool = False
    over_list: str = ""
    work: int = 1

    @property
    def empty(self) -> bool:
        """Nothing to run."""
        return self.tiles == 0 if self.tiles is not None else 0 in self.grid

    def grid_for(self, max_clusters: int) -> tuple[int, int, int]:
        """The grid on a device that holds at most `max_clusters` clusters of a persistent kernel."""
        if self.tiles is None:
            return self.grid
        clusters = max(1, min(self.tiles, max_clusters))
        return (self.cluster[0] * clusters, self.cluster[1], self.cluster[2])


@dataclass(frozen=True, slots=True)
class ResolvedInit:
    """A fill of `count` words of `width` bytes. `kept`: the kernels leave them as they found them."""

    source: str
    byte_offset: int
    count: int
    value: int
    width: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """One plan for one set of dims. `variant` is its name, "" for the manifest's own plan.

    `takes`: the argument that it reads as it is prepared, if it does so.
    """

    variant: str
    key: Key
    workspace: int
    init: tuple[ResolvedInit, ...]
    launches: tuple[ResolvedLaunch, ...]
    tensor_maps: tuple[ResolvedMap, ...]
    takes: str | None = None

    def __repr__(self) -> str:
        plan = f"plan {self.variant}" if self.variant else "plan"
        return f"<fp4rt {plan} at {', '.join(map(str, self.key))}: {len(self.launches)} launches>"


def resolve(manifest: Manifest, dims: Mapping[str, int], prepared: Container[str] = ()) -> Resolved:
    """The plan for these dims, with the arguments `prepared`. ConstraintError names the first constraint that does not
    hold, with its place."""
    check_constraints((*manifest.kernel.constraints, *manifest.constraints), dims)
    if manifest.shared:
        dims = Known(dims, manifest.shared)
    takes, variant, plan, constraints = _chosen(manifest, dims, prepared)
    check_constraints(constraints, dims)
    room = {name: size for arg in manifest.kernel.args for name, size in buffer_sizes(manifest.kernel, arg, dims)}
    if takes is not None:
        room[prepared_buffer(takes.arg)] = _number(takes.bytes, dims, "prepared")
    return _resolved(manifest, variant, plan, dims, room, None if takes is None else takes.arg)


def resolve_preparation(manifest: Manifest, made: Prepared, dims: Mapping[str, int]) -> tuple[Resolved, int, int]:
    """What prepares an argument, by the dims of its axes: the plan, the bytes of the buffer, and where in it the rows
    that could not be made are counted."""
    known = (*manifest.kernel.constraints, *manifest.constraints)
    check_constraints([c for c in known if set(sizes.names(c.expr)) <= dims.keys()], dims)
    room = dict(buffer_sizes(manifest.kernel, manifest.kernel.arg(made.arg), dims))
    size, unfit = (_number(expr, dims, "prepared") for expr in (made.bytes, made.unfit))
    room[prepared_buffer(made.arg)] = size
    if not 0 <= unfit <= size - 4 or unfit % 4:
        raise ArtifactError(f"what is made of {made.arg} has {size} bytes, and its count would be at {unfit}")
    return _resolved(manifest, making(made.arg), made.plan, dims, room, None), size, unfit


def _chosen(
    manifest: Manifest, dims: Mapping[str, int], prepared: Container[str]
) -> tuple[Prepared | None, str, Plan, tuple[Constraint, ...]]:
    """The first plan whose condition holds: those for prepared arguments come first."""
    own = [(made, v) for made in manifest.prepared if made.arg in prepared for v in made.variants]
    for made, candidate in (*own, *((None, v) for v in manifest.variants)):
        if _number(candidate.when, dims, f"variant {candidate.name}"):
            return made, candidate.name, candidate.plan, candidate.constraints
    return None, "", manifest.plan, manifest.plan_constraints


def _resolved(
    manifest: Manifest, variant: str, plan: Plan, dims: Mapping[str, int], room: dict[str, int], takes: str | None
) -> Resolved:
    workspace = _number(plan.workspace, dims, "workspace")
    if workspace < 0:
        raise DimensionError(f"workspace: {sizes.text(plan.workspace)} is {workspace} bytes")
    room[WORKSPACE] = workspace
    scalar_sized = {a.name: ITEM_SIZE[str(a.dtype)] for a in manifest.kernel.args if not a.axes and a.format is None}
    return Resolved(
        variant,
        tuple(dims[d.name] for d in manifest.kernel.dims if d.name in dims),
        workspace,
        tuple(_init(i, dims, room) for i in plan.init),
        _launches(manifest, plan, dims, scalar_sized, room),
        tuple(_map(m, dims, room) for m in plan.tensor_maps),
        takes,
    )


def check_constraints(constraints: Iterable[Constraint], dims: Mapping[str, int]) -> None:
    """Raise ConstraintError for the first that does not hold, with its text, its place and the sizes in it."""
    for c in constraints:
        try:
            holds = bool(sizes.evaluate(c.expr, dims))
        except sizes.SizeError as error:
            raise ConstraintError(f"constraint {c.text!r} ({c.span}): {error}", text=c.text, span=c.span) from error
        if not holds:
            values = ", ".join(f"{n} = {dims[n]}" for n in dict.fromkeys(sizes.names(c.expr)) if n in dims)
            reason = f"; {c.reason}" if c.reason else ""
            raise ConstraintError(
                f"constraint {c.text!r} ({c.span}) does not hold: {values}{reason}", text=c.text, span=c.span
            )


def _number(expr: Expr, dims: Mapping[str, int], what: str) -> int:
    if type(expr) is int and abs(expr) < 1 << 63:
        return expr
    if type(expr) is str and type(known := dims.get(expr)) is int and abs(known) < 1 << 63:
        return known
    try:
        return int(sizes.evaluate(expr, dims))
    except sizes.SizeError as error:
        raise DimensionError(f"{what}: {sizes.text(expr)}: {error}") from error


def buffer_sizes(kernel: TypedKernel, arg: Arg, dims: Mapping[str, int]) -> Iterable[tuple[str, int]]:
    """The bytes of each buffer of an argument. DimensionError for an axis that kernels cannot count."""
    if arg.direction == "param":
        return
    shape = shape_of(arg, dims)
    for axis, extent in zip(arg.axes, shape, strict=True):
        if extent > sizes.LONGEST_AXIS:
            raise DimensionError(
                f"{arg.name}: the axis {sizes.text(axis.extent)} is {extent} long, and kernels count to "
                f"2^31 - 2^16 ({sizes.LONGEST_AXIS}): cut the tensor into several"
            )
    if arg.format is None:
        count = ITEM_SIZE[str(arg.dtype)]
        for extent in shape:
            count *= extent
        yield arg.name, count
        return
    codes = 1
    try:
        for extent in arg.format.codes_shape(shape):
            codes *= extent
    except ValueError as error:
        raise DimensionError(f"{arg.name}: {error}") from error
    yield f"{arg.name}.codes", codes
    if arg.format.scale is not None:
        by = arg.axes[-2].by if len(shape) > 1 else None
        if by is None:
            scales = arg.format.scales_size(shape)
        else:
            groups = _number(kernel.arg(by).axes[0].extent, dims, by) - 1
            scales = buffer_size(arg.format, shape, groups)
        yield f"{arg.name}.scales", scales * (4 if arg.format.scale == "f32" else 1)
    if arg.format.tensor_scale is not None:
        yield f"{arg.name}.tensor_scale", 4 * math.prod(arg.format.tensor_scale_shape(shape))


def _launches(
    manifest: Manifest,
    plan: Plan,
    dims: Mapping[str, int],
    scalars: Mapping[str, int],
    room: Mapping[str, int],
) -> tuple[ResolvedLaunch, ...]:
    out: list[ResolvedLaunch] = []
    for i, launch in enumerate(plan.launches):
        what = f"launch {launch.entry}"
        grid: tuple[int, int, int] = (0, 0, 0)
        tiles: int | None = None
        if isinstance(launch.grid, PersistentGrid):
            tiles = _number(launch.grid.tiles, dims, what)
            if tiles < 0:
                raise DimensionError(f"{what}: {sizes.text(launch.grid.tiles)} is {tiles} tiles")
            if tiles > sizes.LONGEST_AXIS:
                raise DimensionError(
                    f"{what}: {sizes.text(launch.grid.tiles)} is {tiles} tiles, and kernels count to 2^31 - 2^16: "
                    "cut the tensors up"
                )
        else:
            x, y, z = (_number(g, dims, what) for g in launch.grid)
            grid = (x, y, z)
            if x >= 2**31 or y >= 2**16 or z >= 2**16 or min(grid) < 0:
                raise DimensionError(f"{what}: a grid of {grid} is over the limits 2^31-1, 65535, 65535")
            if any(g % c for g, c in zip(grid, launch.cluster, strict=True)):
                raise ArtifactError(f"{what}: the grid {grid} is no multiple of the cluster {launch.cluster}")
        params = tuple(
            [
                p if isinstance(p, ResolvedParam) else _param(p, dims, scalars, room)
                for p in _params(launch, scalars, room)
            ]
        )
        module = launch.module or manifest.name
        out.append(
            ResolvedLaunch(
                i,
                launch.entry,
                module,
                tiles,
                grid,
                launch.block,
                launch.cluster,
                launch.smem,
                params,
                launch.dependent,
                "" if launch.many is None else launch.many.module,
                1 if launch.many is None else max(1, _number(launch.many.work, dims, what)),
            )
        )
    return tuple(out)


#: The parameters of launches, those that are the same for all dims resolved: by identity, which the launch beside them
#: keeps its own.
_same: dict[int, tuple[Launch, list[Param | ResolvedParam]]] = {}
_MAX_SAME = 512


def _params(launch: Launch, scalars: Mapping[str, int], room: Mapping[str, int]) -> list[Param | ResolvedParam]:
    """Those of a launch. A launch belongs to one manifest, and `scalars` are that one's."""
    known = _same.get(id(launch))
    if known is None:
        known = launch, [_param(p, {}, scalars, room) if _is_same(p) else p for p in launch.params]
        if len(_same) >= _MAX_SAME:
            _same.clear()
        _same[id(launch)] = known
    return known[1]


def _is_same(p: Param) -> bool:
    return p.kind in ("tensor_map", "f32") or (p.kind == "pointer" and p.byte_offset == 0)


def _param(p: Param, dims: Mapping[str, int], scalars: Mapping[str, int], room: Mapping[str, int]) -> ResolvedParam:
    if p.kind in ("i32", "i64"):
        value = _number(p.source, dims, f"parameter at byte {p.offset}")
        bits = 32 if p.kind == "i32" else 64
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise DimensionError(f"{sizes.text(p.source)} = {value} does not fit the kernel's {bits}-bit parameter")
        return ResolvedParam(p.kind, p.offset, p.size, "", value, 0, 1)
    source = str(p.source)
    align = p.align or scalars.get(source, 4 if source.endswith(".tensor_scale") else 16)
    byte_offset = _number(p.byte_offset, dims, f"{source} + byte_offset") if p.kind == "pointer" else 0
    if byte_offset and not 0 <= byte_offset <= room[source]:
        raise ArtifactError(f"a pointer to byte {byte_offset} leaves {source}, which has {room[source]}")
    return ResolvedParam(p.kind, p.offset, p.size, source, 0, byte_offset, align)


def _init(init: Init, dims: Mapping[str, int], room: Mapping[str, int]) -> ResolvedInit:
    source, width = init.source, init.width
    start, words = (_number(size, dims, f"init of {source}") for size in (init.byte_offset, init.count))
    if start < 0 or words < 0 or start % width or start + words * width > room[source]:
        raise ArtifactError(f"init: {words * width} bytes at {start} leave {source}, which has {room[source]}")
    return ResolvedInit(source, start, words, init.value, width, init.kept)


def _map(m: TensorMap, dims: Mapping[str, int], room: Mapping[str, int]) -> ResolvedMap:
    what = f"tensor map {m.name}"
    active = m.when is None or bool(_number(m.when, dims, what))
    extents = tuple([_number(d, dims, what) for d in m.dims]) if active else ()
    strides = tuple([_number(s, dims, what) for s in m.strides]) if active else ()
    start = _number(m.byte_offset, dims, what) if active else 0
    if active and 0 in extents:
        active = False  # nothing of it is ever loaded or stored, and CUDA encodes no empty tensor
    elif active:
        _check_map(what, m.dtype, extents, strides, start, room[m.source])
    return ResolvedMap(
        m.name, m.source, start, m.dtype, extents, strides, m.box, m.element_strides, m.swizzle, m.l2, m.fill, active
    )


def _check_map(what: str, dtype: str, dims: tuple[int, ...], strides: tuple[int, ...], start: int, room: int) -> None:
    if min(dims) <= 0 or max(dims) > 2**32:
        raise DimensionError(f"{what}: sizes {dims} are not within 1 and 2^32")
    unit = 32 if dtype in ("B4X16_P64", "B6X16_P32") else 16
    for i, stride in enumerate(strides):
        if stride % unit or not 0 < stride < 2**40:
            raise DimensionError(f"{what}: stride {i} is {stride} bytes; TMA takes multiples of {unit} below 2^40")
    row = -(-dims[0] * MAP_DTYPES[dtype] // 8)
    end = start + row + sum([(d - 1) * s for d, s in zip(dims[1:], strides, strict=True)])
    if start < 0 or end > room:
        raise ArtifactError(f"{what}: it spans bytes {start} to {end} of a buffer of {room}")
