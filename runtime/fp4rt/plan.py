"""How one call runs: launches, parameters, tensor maps, fills, workspace; sizes are expressions over the dims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from fp4rt.strict import Expr, Json, Node, dump_expr

#: Parameter kind -> (size, alignment) in bytes, as they lie in a kernel's `.param` space.
PARAM_KINDS = {"tensor_map": (128, 64), "pointer": (8, 8), "i32": (4, 4), "i64": (8, 8), "f32": (4, 4)}
#: Tensor map element type -> bits of one element in global memory. The last three are PTX's names for CUDA's
#: 16U4_ALIGN8B (packed in shared memory too), 16U4_ALIGN16B and 16U6_ALIGN16B (16 elements padded to 16 bytes there).
MAP_DTYPES = {
    "U8": 8, "U16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F16": 16, "BF16": 16, "F32": 32, "F64": 64,
    "F32_FTZ": 32, "TF32": 32, "TF32_FTZ": 32, "B4X16": 4, "B4X16_P64": 4, "B6X16_P32": 6,
}  # fmt: skip
SWIZZLES = ("none", "32B", "64B", "128B")
L2_PROMOTIONS = ("none", "64B", "128B", "256B")
FILLS = ("zeros", "nan")


#: The members of a plan in JSON.
#: What a plan calls the workspace among the buffers: no argument can have this name.
WORKSPACE = ".workspace"
#: What a plan calls what was made once for a prepared argument, by its name.
PREPARED = ".prepared"
#: Parts of K at most, whose sums meet, or are added in memory.
MOST_PARTS = 16
PLAN_FIELDS = ("workspace", "init", "launches", "tensor_maps")
#: Those that need not be there.
PLAN_OPTIONS = ("unordered",)


def prepared_buffer(arg: str) -> str:
    """The name of the buffer beside a prepared argument."""
    return f"{arg}{PREPARED}"


@dataclass(frozen=True, slots=True)
class Param:
    """One kernel parameter: `offset` and `size` in bytes of the parameter space (0, 0 until `place` fills them).

    kind      source
    tensor_map  name of a TensorMap
    pointer     name of a buffer, to which `byte_offset` is added
    i32, i64    a size expression
    f32         name of a `param` argument

    `align` is what the kernel assumes of a pointer's address (before `byte_offset`), in bytes; 0 stands for 16, and
    for the element's own size where the buffer is one number.
    """

    kind: str
    source: Expr
    byte_offset: Expr = 0
    offset: int = 0
    size: int = 0
    align: int = 0


@dataclass(frozen=True, slots=True)
class PersistentGrid:
    """A grid of clusters that share `tiles` tiles: n = min(tiles, max active clusters) clusters along x.

    The grid is (cluster.x * n, cluster.y, cluster.z); `cluster_size` is the number of CTAs of a cluster.
    Where `tiles` is 0 nothing is launched.
    """

    tiles: Expr
    cluster_size: int


Grid: TypeAlias = "PersistentGrid | tuple[Expr, Expr, Expr]"


@dataclass(frozen=True, slots=True)
class ListForm:
    """The same kernel for a list of problems: `module` is the stem of its files, its parameters are `LIST_PARAMS`.

    The parameters of a launch lie in a record in global memory instead, one for each problem (`record_layout`). A CTA
    works on one problem, so a launch over a list has as many clusters for each as are found good for it. `work` is the
    time of one tile, as a number that compares those of a kernel.
    """

    module: str
    work: Expr = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch. `module` is the stem of its files (None: the manifest's name); `smem` the dynamic bytes.

    `dependent`: it may begin while the launch before it in the stream still runs, for whose end it waits itself
    (programmatic dependent launch; PTX ISA 9.7.13.13, "griddepcontrol"). `many`: the kernel for lists of problems.
    """

    entry: str
    grid: Grid
    block: tuple[int, int, int]
    cluster: tuple[int, int, int]
    smem: int
    params: tuple[Param, ...]
    module: str | None = None
    dependent: bool = False
    many: ListForm | None = None


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A tiled tensor map. `dims` innermost first, in elements of `dtype`; `strides` in bytes of dims 1 and up.

    Encoded only where `when` holds; otherwise the parameter is 128 zero bytes, which the kernel does not use.
    """

    name: str
    source: str
    dtype: str
    dims: tuple[Expr, ...]
    strides: tuple[Expr, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: str = "none"
    l2: str = "none"
    fill: str = "zeros"
    byte_offset: Expr = 0
    when: Expr | None = None


@dataclass(frozen=True, slots=True)
class Init:
    """Fill before the first launch: `count` words of `width` bytes (1, 2 or 4) at `source` + `byte_offset`.

    `kept`: the kernels leave these words as they found them, so that memory that is used again for the same call, and
    for nothing else, need not be filled again.
    """

    source: str
    count: Expr
    value: int = 0
    width: int = 1
    byte_offset: Expr = 0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How one call runs: workspace bytes, what is filled before, launches in order, and the maps they use.

    `unordered`: outputs to which parts of sums are added in memory, in whatever order they come.
    """

    launches: tuple[Launch, ...]
    tensor_maps: tuple[TensorMap, ...] = ()
    workspace: Expr = 0
    init: tuple[Init, ...] = ()
    unordered: tuple[str, ...] = ()

    def tensor_map(self, name: str) -> TensorMap:
        """The tensor map of that name; KeyError if there is none."""
        for tensor_map in self.tensor_maps:
            if tensor_map.name == name:
                return tensor_map
        raise KeyError(name)


def place(params: Iterable[Param]) -> tuple[Param, ...]:
    """Give parameters the offsets and sizes that PTX gives them in this order (natural alignment, maps at 64)."""
    out: list[Param] = []
    end = 0
    for param in params:
        size, align = PARAM_KINDS[param.kind]
        offset = -(-end // align) * align
        out.append(replace(param, offset=offset, size=size))
        end = offset + size
    return tuple(out)


#: What a kernel over a list takes: where the records lie, and the four words of each CTA (its record, its number among
#: the CTAs of that problem, how many these are, 0).
LIST_PARAMS = place((Param("pointer", ".records"), Param("pointer", ".places")))
#: From record to record, and where a tensor map may lie in global memory, which a fence of its proxy takes (PTX ISA
#: 9.7.13.4): multiples of so many bytes.
RECORD_ALIGN = 128
#: Bytes of what a CTA finds of itself.
PLACE_BYTES = 16


def record_layout(kinds: Iterable[str]) -> tuple[list[int], int]:
    """Where the parameters of a problem lie in its record, by their kinds, and the bytes of a record.

    Tensor maps come first, then eight bytes for each of the others.
    """
    found = list(kinds)
    maps = found.count("tensor_map")
    out: list[int] = []
    at, other = 0, RECORD_ALIGN * maps
    for kind in found:
        if kind == "tensor_map":
            out.append(at)
            at += RECORD_ALIGN
        else:
            out.append(other)
            other += 8
    return out, -(-other // RECORD_ALIGN) * RECORD_ALIGN


def over_list(launch: Launch) -> Launch:
    """A launch of the kernel over a list. ValueError where there is none."""
    if launch.many is None:
        raise ValueError(f"{launch.entry} has no kernel for lists")
    return replace(launch, module=launch.many.module, params=LIST_PARAMS, dependent=False, many=None)


def parse_plan(f: Mapping[str, Node]) -> Plan:
    """Read a plan from the members `PLAN_FIELDS` of an object; ArtifactError names the path of what does not fit."""
    return Plan(
        workspace=f["workspace"].expr(),
        init=tuple(_parse_init(n) for n in f["init"].items()),
        launches=tuple(_parse_launch(n) for n in f["launches"].items()),
        tensor_maps=tuple(_parse_map(n) for n in f["tensor_maps"].items()),
        unordered=tuple(n.string() for n in f["unordered"].items()) if "unordered" in f else (),
    )


def dump_plan(plan: Plan) -> dict[str, Json]:
    """The members of a plan as JSON."""
    return {
        "workspace": dump_expr(plan.workspace),
        "init": [
            {
                "source": i.source,
                "byte_offset": dump_expr(i.byte_offset),
                "count": dump_expr(i.count),
                "value": i.value,
                "width": i.width,
                **({"kept": 1} if i.kept else {}),
            }
            for i in plan.init
        ],
        "launches": [_dump_launch(launch) for launch in plan.launches],
        "tensor_maps": [_dump_map(m) for m in plan.tensor_maps],
        **({"unordered": list(plan.unordered)} if plan.unordered else {}),
    }


def _parse_init(node: Node) -> Init:
    f = node.fields(("source", "count"), ("value", "width", "byte_offset", "kept"))
    width = f["width"].integer() if "width" in f else 1
    if width not in (1, 2, 4):
        raise f["width"].fail("width is 1, 2 or 4 bytes")
    value = f["value"].integer(0, 256**width - 1) if "value" in f else 0
    byte_offset = f["byte_offset"].expr() if "byte_offset" in f else 0
    kept = "kept" in f and f["kept"].integer(0, 1) == 1
    return Init(f["source"].string(), f["count"].expr(), value, width, byte_offset, kept)


def _parse_launch(node: Node) -> Launch:
    f = node.fields(("entry", "grid", "block", "cluster", "smem", "params"), ("module", "dependent", "many"))
    block = f["block"].integers(3, 1, 1024)
    cluster = f["cluster"].integers(3, 1, 16)
    if block[0] * block[1] * block[2] > 1024:
        raise f["block"].fail("a block has at most 1024 threads")
    if block[2] > 64:
        raise f["block"].fail("a block has at most 64 threads along z")
    if cluster[0] * cluster[1] * cluster[2] > 16:
        raise f["cluster"].fail("a cluster has at most 16 CTAs")
    grid = _parse_grid(f["grid"])
    size = cluster[0] * cluster[1] * cluster[2]
    if isinstance(grid, PersistentGrid) and grid.cluster_size != size:
        raise f["grid"].fail(f"cluster_size is {grid.cluster_size}, but the cluster has {size} CTAs")
    params = tuple(_parse_param(n) for n in f["params"].items())
    for node, found, wanted in zip(f["params"].items(), params, place(params), strict=True):
        if found.offset != wanted.offset:
            raise node.fail(f"it lies at byte {found.offset}; after those before it comes byte {wanted.offset}")
    return Launch(
        entry=f["entry"].string(),
        grid=grid,
        block=(block[0], block[1], block[2]),
        cluster=(cluster[0], cluster[1], cluster[2]),
        smem=f["smem"].integer(0, 1 << 20),
        params=params,
        module=f["module"].optional(Node.string) if "module" in f else None,
        dependent="dependent" in f and f["dependent"].integer(0, 1) == 1,
        many=_parse_list_form(f["many"]) if "many" in f else None,
    )


def _parse_list_form(node: Node) -> ListForm:
    f = node.fields(("module", "work"))
    return ListForm(f["module"].string(), f["work"].expr())


def _parse_grid(node: Node) -> Grid:
    if isinstance(node.value, dict):
        f = node.fields(("tiles", "cluster_size"))
        return PersistentGrid(f["tiles"].expr(), f["cluster_size"].integer(1, 16))
    sizes = tuple(n.expr() for n in node.items())
    if len(sizes) != 3:
        raise node.fail("a grid has three sizes")
    return (sizes[0], sizes[1], sizes[2])


def _parse_param(node: Node) -> Param:
    f = node.fields(("kind", "source", "offset", "size"), ("byte_offset", "align"))
    kind = f["kind"].choice(PARAM_KINDS)
    size, align = PARAM_KINDS[kind]
    if f["size"].integer() != size:
        raise f["size"].fail(f"a {kind} takes {size} bytes")
    offset = f["offset"].integer(0, 4096 * 8)
    if offset % align:
        raise f["offset"].fail(f"a {kind} is aligned to {align} bytes")
    source = f["source"].expr()
    if kind not in ("i32", "i64") and not isinstance(source, str):
        raise f["source"].fail(f"a {kind} names its source")
    byte_offset = f["byte_offset"].expr() if "byte_offset" in f else 0
    if kind != "pointer" and byte_offset != 0:
        raise f["byte_offset"].fail("only a pointer has a byte_offset")
    alignment = f["align"].integer(0, 256) if "align" in f else 0
    return Param(kind, source, byte_offset, offset, size, alignment)


def _dump_launch(launch: Launch) -> Json:
    grid = launch.grid
    return {
        "entry": launch.entry,
        "module": launch.module,
        "grid": {"tiles": dump_expr(grid.tiles), "cluster_size": grid.cluster_size}
        if isinstance(grid, PersistentGrid)
        else [dump_expr(g) for g in grid],
        "block": list(launch.block),
        "cluster": list(launch.cluster),
        "smem": launch.smem,
        **({"dependent": 1} if launch.dependent else {}),
        **({"many": {"module": launch.many.module, "work": dump_expr(launch.many.work)}} if launch.many else {}),
        "params": [
            {
                "kind": p.kind,
                "offset": p.offset,
                "size": p.size,
                "source": dump_expr(p.source),
                **({"byte_offset": dump_expr(p.byte_offset), "align": p.align} if p.kind == "pointer" else {}),
            }
            for p in launch.params
        ],
    }


def _parse_map(node: Node) -> TensorMap:
    f = node.fields(
        ("name", "source", "dtype", "dims", "strides", "box", "element_strides", "swizzle", "l2"),
        ("fill", "byte_offset", "when"),
    )
    dims = tuple(n.expr() for n in f["dims"].items())
    rank = len(dims)
    if not 1 <= rank <= 5:
        raise f["dims"].fail("a tensor map has 1 to 5 dims")
    strides = tuple(n.expr() for n in f["strides"].items())
    if len(strides) != rank - 1:
        raise f["strides"].fail(f"expected {rank - 1} strides, found {len(strides)}")
    return TensorMap(
        name=f["name"].string(),
        source=f["source"].string(),
        dtype=f["dtype"].choice(MAP_DTYPES),
        dims=dims,
        strides=strides,
        box=f["box"].integers(rank, 1, 256),
        element_strides=f["element_strides"].integers(rank, 1, 8),
        swizzle=f["swizzle"].choice(SWIZZLES),
        l2=f["l2"].choice(L2_PROMOTIONS),
        fill=f["fill"].choice(FILLS) if "fill" in f else "zeros",
        byte_offset=f["byte_offset"].expr() if "byte_offset" in f else 0,
        when=f["when"].optional(Node.expr) if "when" in f else None,
    )


def _dump_map(m: TensorMap) -> Json:
    return {
        "name": m.name,
        "source": m.source,
        "dtype": m.dtype,
        "dims": [dump_expr(d) for d in m.dims],
        "strides": [dump_expr(s) for s in m.strides],
        "box": list(m.box),
        "element_strides": list(m.element_strides),
        "swizzle": m.swizzle,
        "l2": m.l2,
        "fill": m.fill,
        "byte_offset": dump_expr(m.byte_offset),
        "when": None if m.when is None else dump_expr(m.when),
    }
