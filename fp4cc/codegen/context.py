"""What every kernel template substitutes: the header, imports, parameters, and the epilogue's text."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Fragment
from fp4cc.codegen.parts import bytes_name
from fp4cc.codegen.summary import summary
from fp4cc.ir.lowered import Cluster, KernelParam, LoweredKernel, Overlap, Pipeline, Size, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueProgram
from fp4cc.version import version

_PARAM_TYPES = {
    "tensor_map": "cutlass.GridConstant[cuda.TensorMap]",
    "pointer": "cutlass.Pointer",
    "i32": "cutlass.Int32",
    "i64": "cutlass.Int64",
    "f32": "cutlass.Float32",
}
_PLACEHOLDERS = {
    "tensor_map": "tensor_map",
    "pointer": "pointer.raw_ptr()",
    "i32": "cutlass.Int32(0)",
    "i64": "cutlass.Int64(0)",
    "f32": "cutlass.Float32(0.0)",
}
_IMPORTS = (
    "from pathlib import Path",
    "",
    "import cutlass",
    "import cutlass.cute as cute",
    "from cutlass.cute.runtime import make_fake_stream, make_ptr",
    "from cutlass.experimental import cuda",
    "from cutlass.experimental import primitives as prims",
)
#: Of these a file has the names that it uses.
_OPTIONAL = (
    "from cutlass import Boolean, Float32, Int32, Int64",
    "from cutlass._mlir.dialects import llvm",
)

#: The lines that name the address space of shared memory, and (`cta_group`) the CTAs that make a tile.
SMEM = "SMEM = cutlass.AddressSpace.smem"


def cta_group(size: int) -> str:
    """See above."""
    return f"CTA_GROUP = prims.CTAGroup.CTA_{size}"


@dataclass(frozen=True, slots=True)
class Constant:
    """A module-level constant of the emitted file."""

    name: str
    value: int | str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panels:
    """How an epilogue walks a tile: panels side by side, and sub-tiles of each. One panel where one walk is enough.

    `at_once`: how many sub-tiles a turn of a short walk takes.
    """

    count: int
    subtiles: int
    last_subtile: int
    at_once: int

    @classmethod
    def of(cls, program: EpilogueProgram, epilogue: EpilogueText) -> Panels:
        """The panels of an epilogue's columns."""
        if program.steps is not None:
            return cls(1, program.steps, program.steps - 1, 1)
        columns = program.panel if program.panel and epilogue.walks else program.tile_n
        subtiles = columns // program.subtile
        return cls(program.tile_n // columns, subtiles, subtiles - 1, 2 if subtiles % 2 == 0 else 1)


@dataclass(frozen=True, slots=True)
class ParamText:
    """A parameter of the kernel: its type, and what stands for it where the kernel is only compiled."""

    name: str
    type: str
    placeholder: str
    note: str


@dataclass(frozen=True, slots=True)
class BufferText:
    """An allocation in shared memory: `count` elements, by name where there is one."""

    name: str
    dtype: str
    count: int | str
    align: int

    @classmethod
    def of_bytes(cls, buffer: SmemBuffer) -> BufferText:
        """One without a type of its own."""
        return cls(buffer.name, "cutlass.Int8", buffer.total, buffer.align)

    @classmethod
    def of_ring(cls, buffer: SmemBuffer) -> BufferText:
        """One of a kernel with one mainloop: parts of its stages, the barriers of stages and of sums, others."""
        if buffer.part is not None:
            return cls(buffer.name, "cutlass.Int8", f"STAGES * {bytes_name(buffer.part)}", buffer.align)
        if buffer.name in ("ab_full", "ab_empty"):
            return cls(buffer.name, "cutlass.Int64", "STAGES", 8)
        if buffer.name in ("acc_full", "acc_empty"):
            return cls(buffer.name, "cutlass.Int64", 1, 8)
        return cls.of_bytes(buffer)


@dataclass(frozen=True, slots=True)
class SizeText:
    """A size that is known: a constant at the kernel's start."""

    name: str
    value: int
    note: str

    @classmethod
    def known(cls, sizes: Iterable[Size]) -> list[SizeText]:
        """Those of sizes that are known."""
        return [cls(size.name, int(size.value), size.what) for size in sizes if isinstance(size.value, int)]


@dataclass(frozen=True, slots=True)
class Uses:
    """Which names of the frame an epilogue uses."""

    lane: bool
    row: bool
    row_valid: bool
    batch: bool
    first_column: bool

    @classmethod
    def of(cls, epilogue: EpilogueText) -> Uses:
        """Those that an epilogue's text reads."""
        used = epilogue.uses
        first_column = not used.isdisjoint(("first_column", "column_step"))
        return cls("lane" in used, "row" in used, "row_valid" in used, "batch" in used, first_column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the templates around an engine's use.

    Args:
        title, summary: what is computed, in one line, and the spec with the plan in words.
        place_template: the function that finds a tile.
        constants, spaces: what stands at module level, by groups; batched, band: how a tile is found.
        subtile, panels, uses: the columns of a sub-tile, how it walks a tile, what it uses.
        ctas_per_sm: how many CTAs registers are to be left for (0: the compiler of PTX decides).
        prefetched: the parameters that are tensor maps; one that a call has no use for is zeros, which may be fetched.
        overlap: when a launch that depends on this one may begin ("no": none does).
        record: where a CTA finds what are parameters otherwise, in a kernel over a list of problems.
    """

    version: str
    title: str
    summary: str
    name: str
    target: str
    place_template: str
    params: list[ParamText]
    prefetched: list[str]
    cluster: Cluster
    threads: int
    constants: list[list[Constant]]
    spaces: list[str]
    buffers: list[BufferText]
    sizes: list[SizeText]
    batched: bool
    band: int
    subtile: int
    panels: Panels
    uses: Uses
    epilogue: EpilogueText
    ctas_per_sm: int
    overlap: Overlap
    record: Fragment = ()


def param_text(param: KernelParam) -> ParamText:
    """A parameter in the kernel's signature."""
    return ParamText(param.name, _PARAM_TYPES[param.param.kind], _PLACEHOLDERS[param.param.kind], param.what)


#: Where a tile lies, by the way over them.
BY_TILES = "common/place.py.j2"


def frame(
    lowered: LoweredKernel,
    epilogue: EpilogueText,
    *,
    title: str,
    plan: str,
    constants: list[list[Constant]],
    spaces: list[str],
    buffers: list[BufferText],
    batched: bool,
    band: int,
    place_template: str = BY_TILES,
    ctas_per_sm: int = 0,
) -> Frame:
    """The frame of a kernel."""
    return Frame(
        version=version(),
        title=title,
        summary=summary(lowered.kernel, f"{lowered.role} {plan}".strip()),
        name=lowered.name,
        target=lowered.target,
        place_template=place_template,
        params=[param_text(p) for p in lowered.launch.params],
        prefetched=[p.name for p in lowered.launch.params if p.param.kind == "tensor_map"],
        cluster=lowered.cluster,
        threads=lowered.launch.threads,
        constants=constants,
        spaces=spaces,
        buffers=buffers,
        sizes=SizeText.known(lowered.launch.sizes),
        batched=batched,
        band=band,
        subtile=lowered.epilogue.subtile,
        panels=Panels.of(lowered.epilogue, epilogue),
        uses=Uses.of(epilogue),
        epilogue=epilogue,
        ctas_per_sm=ctas_per_sm,
        overlap=lowered.overlap,
    )


def waits(pipeline: Pipeline) -> dict[str, str]:
    """By ring, the library's function that waits for one of its barriers."""
    return {ring.name: "wait" if ring.scope == "cta" else "wait_in_cluster" for ring in pipeline.barriers}


def arrivals(pipeline: Pipeline) -> dict[str, int]:
    """By ring, how many arrivals end a phase of one of its barriers."""
    return {ring.name: ring.arrivals for ring in pipeline.barriers}


def named_barriers(lowered: LoweredKernel) -> list[Constant]:
    """The named barriers that the template itself uses: those of the epilogue's constructs are their own."""
    others = (barrier for barrier in lowered.named_barriers if barrier.name not in lowered.epilogue.barriers)
    return [Constant(barrier.name, barrier.number, barrier.what) for barrier in others]


def place_call(batched: bool, batch_used: bool) -> str:
    """The template's line that finds a tile's place; the batch is dropped where nothing uses it."""
    names = "tile_m, tile_n"
    if batched:
        names += ", batch" if batch_used else ", _"
    return f"{names} = place(tile, tiles_m, tiles_n)"


def imports(used: Container[str]) -> list[str]:
    """The import lines of a file that uses these names, in the order in which a linter sorts them."""
    wanted = [line for line in (_used(line, used) for line in _OPTIONAL) if line is not None]
    others = sorted(
        {*_IMPORTS[2:], *wanted},
        key=lambda line: (line.startswith("from "), line.replace("from ", "").replace("import ", "")),
    )
    return [_IMPORTS[0], "", *others]


def _used(line: str, used: Container[str]) -> str | None:
    """An import line with only the names that are used; None if none of them is."""
    head, _, names = line.partition(" import ")
    found = [name for name in names.split(", ") if name in used]
    return f"{head} import {', '.join(found)}" if found else None
