"""What every kernel template substitutes: the header, imports, parameters, and the epilogue's text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.summary import summary
from fp4cc.ir.lowered import EPILOGUE_BARRIER, LoweredKernel, Pipeline
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


@dataclass(frozen=True, slots=True)
class Constant:
    """A module-level constant of the emitted file."""

    name: str
    value: int | str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panels:
    """How an epilogue walks a tile: panels side by side, and sub-tiles of each. One panel where one walk is enough."""

    count: int
    subtiles: int

    @classmethod
    def of(cls, program: EpilogueProgram) -> Panels:
        """The panels of an epilogue's columns."""
        columns = program.panel or program.tile_n
        return cls(program.tile_n // columns, columns // program.subtile)


def frame(lowered: LoweredKernel, epilogue: EpilogueText, title: str, plan: str) -> dict[str, Any]:
    """The names that the templates of all engines use. `title` and `plan` say in words what is computed, and how."""
    return {
        "version": version(),
        "title": title,
        "summary": summary(lowered.kernel, f"{lowered.role} {plan}".strip()),
        "name": lowered.name,
        "target": lowered.target,
        "imports": _imports(epilogue),
        "params": [
            {
                "name": p.name,
                "type": _PARAM_TYPES[p.param.kind],
                "placeholder": _PLACEHOLDERS[p.param.kind],
                "note": p.what,
            }
            for p in lowered.launch.params
        ],
        "cluster": lowered.cluster,
        "threads": lowered.launch.threads,
        "epilogue": epilogue,
    }


def waits(pipeline: Pipeline) -> dict[str, str]:
    """By ring, the library's function that waits for one of its barriers."""
    return {ring.name: "wait" if ring.scope == "cta" else "wait_in_cluster" for ring in pipeline.barriers}


def arrivals(pipeline: Pipeline) -> dict[str, int]:
    """By ring, how many arrivals end a phase of one of its barriers."""
    return {ring.name: ring.arrivals for ring in pipeline.barriers}


def named_barriers(lowered: LoweredKernel) -> list[Constant]:
    """The named barriers that the template itself uses: those of the epilogue's constructs are their own."""
    others = (barrier for barrier in lowered.named_barriers if barrier != EPILOGUE_BARRIER)
    return [Constant(barrier.name, barrier.number, barrier.what) for barrier in others]


def constant_sizes(lowered: LoweredKernel) -> list[dict[str, Any]]:
    """The sizes that are numbers: constants of the file."""
    sizes = lowered.launch.sizes
    return [{"name": s.name, "value": int(s.value), "note": s.what} for s in sizes if isinstance(s.value, int)]


def place_call(batched: bool, batch_used: bool) -> str:
    """The template's line that finds a tile's place; the batch is dropped where nothing uses it."""
    names = "tile_m, tile_n"
    if batched:
        names += ", batch" if batch_used else ", _"
    return f"{names} = place(tile, tiles_m, tiles_n)"


def mentions(text: str, name: str) -> bool:
    """Whether Python text uses a name."""
    return re.search(rf"(?<![\w.]){name}\b", text) is not None


def _imports(epilogue: EpilogueText) -> list[str]:
    """Import lines in the order a linter sorts them, each once."""
    standard = [_IMPORTS[0]]
    text = f"{epilogue.functions}\n{epilogue.hooks}"
    wanted = {line for line in (_used(line, text) for line in epilogue.imports) if line is not None}
    others = sorted(
        {*_IMPORTS[2:], *wanted},
        key=lambda line: (line.startswith("from "), line.replace("from ", "").replace("import ", "")),
    )
    return [*standard, "", *others]


def _used(line: str, text: str) -> str | None:
    """An import line with only the names that the text uses; None if it uses none of them."""
    head, _, names = line.partition(" import ")
    used = [name for name in names.split(", ") if mentions(text, name)]
    return f"{head} import {', '.join(used)}" if used else None
