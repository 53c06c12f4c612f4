"""The parsed module (PTX ISA chapters 4, 5 and 11): functions with flat bodies in which every name is resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4emu.errors import PtxError
from fp4emu.instruction import Instruction

# Bytes of each fundamental type; `pred` has no memory form.
TYPE_BYTES = {
    **{f"{k}{b}": b // 8 for k in "bus" for b in (8, 16, 32, 64)},
    "b128": 16,
    "f16": 2,
    "f32": 4,
    "f64": 8,
    "bf16": 2,
    "f16x2": 4,
    "bf16x2": 4,
    "tf32": 4,
    "u16x2": 4,
    "s16x2": 4,
    "b4x16": 8,
    "b4x16_p64": 16,
    "b6x16_p32": 16,
    "b6p2x16": 16,
    "texref": 8,
    "samplerref": 8,
    "surfref": 8,
    "pred": 1,
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in `space` ("global", "const", "shared", "local", "param"). `size` 0 with `extern`: dynamic shared
    memory.

    `relocations` are (byte offset, symbol, addend, bytes) of initialisers that hold addresses.
    """

    name: str
    space: str
    alignment: int
    size: int
    extern: bool = False
    initial: bytes | None = None
    relocations: tuple[tuple[int, str, int, int], ...] = ()


@dataclass(slots=True)
class Function:
    """An `.entry` or `.func`. `labels` maps a resolved label to the index in `body` of the instruction it precedes.
    `refusals` are its instructions that are not emulated, which are left out: the function cannot run."""

    name: str
    entry: bool
    line: int
    params: list[Variable] = field(default_factory=list[Variable])
    returns: list[Variable] = field(default_factory=list[Variable])
    body: list[Instruction] = field(default_factory=list[Instruction])
    labels: dict[str, int] = field(default_factory=dict[str, int])
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    branch_tables: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    required_block: tuple[int, int, int] | None = None
    max_block: tuple[int, int, int] | None = None
    required_cluster: tuple[int, int, int] | None = None
    max_registers: int | None = None
    min_blocks: int = 0
    defined: bool = True
    refusals: list[PtxError] = field(default_factory=list[PtxError])


@dataclass(slots=True)
class Module:
    """One translation unit. `target` is its `.target`, `gpu` the architecture that it is to run on."""

    gpu: str

    version: tuple[int, int] = (0, 0)
    target: str = ""
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    functions: dict[str, Function] = field(default_factory=dict[str, Function])
