"""What the plan of an epilogue is made of: constructs, each with its part of the plan at every hook.

A construct has two halves with one name. This is the half that plans: what it claims, what it refuses, and what that
takes of memory, parameters and barriers. Its text is a `Construct` of `fp4cc.codegen.epilogue`. The hooks are called in
the order in which `Construct` has them; each for all constructs in the order of the registry
(`fp4cc.passes.epilogue.registry.CONSTRUCTS`), or, for an input, an output or a value, for the one that has claimed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fp4cc.diagnostics import Diagnostic
from fp4cc.ir.kernel import Arg, Expr, Kernel, Value
from fp4cc.ir.lowered import KernelParam, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueOutput, EpilogueProgram, Scope, Space
from fp4cc.ir.sizes import Sizes
from fp4cc.passes.epilogue.inputs import Inputs
from fp4cc.passes.epilogue.memory import Level
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import Init, TensorMap


@dataclass(frozen=True, slots=True)
class Planning:
    """What constructs plan with: the kernel, and what has been decided of it so far.

    `tile_n` and `panel`: the columns of a tile, and those of them that are walked together. `live`: the values that
    something stored needs, in order; `scopes`: how often each is computed. `level`: how results are staged.
    """

    frame: Frame
    sizes: Sizes
    tile_n: int
    panel: int
    live: tuple[int, ...]
    scopes: Mapping[int, Scope]
    level: Level

    @property
    def kernel(self) -> Kernel:
        """The typed kernel as the epilogue sees it."""
        return self.frame.kernel

    @property
    def space(self) -> Space:
        """The elements that the epilogue works on."""
        return self.frame.problem


@dataclass(frozen=True, slots=True)
class GlobalMemory:
    """What is filled before the launch, parameters, and where what is taken of the workspace ends, in bytes."""

    init: tuple[Init, ...]
    params: tuple[KernelParam, ...]
    end: Expr


_STORED = {
    "tma": ("TMA", "rows always start on 16 bytes"),
    "direct": ("plain stores", "rows do not start on 16 bytes, which TMA needs"),
    "either": (
        "TMA or plain stores",
        "whether rows start on 16 bytes depends on a dynamic size: TMA where they do, plain stores elsewhere",
    ),
    "engine": ("the warps that multiply, by TMA", "it is made of sums and scalars alone, which they have in registers"),
}


class Construct:
    """A part of an epilogue. Each hook says what it claims, refuses or takes; most have nothing at most of them."""

    #: That of its text half, too.
    name: ClassVar[str]
    #: The kinds of inputs that it loads, and of outputs that it writes (`EpilogueInput.kind`, `EpilogueOutput.kind`).
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    #: Whether its refusal of a value says all that there is to say of the outputs computed from it.
    says_all: ClassVar[bool] = False

    # What it claims: of the constructs that would, the first one gets it.

    def makes(self, index: int, frame: Frame) -> bool:
        """Whether it computes this value, which takes more than its operands for one element."""
        return False

    def stores(self, arg: Arg, value: Value, frame: Frame) -> bool:
        """Whether it writes this output."""
        return False

    # What it refuses.

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        """Why a value that it claims cannot be computed, if so."""
        return ()

    def output_refusals(self, arg: Arg, value: Value, frame: Frame) -> Iterable[Diagnostic]:
        """Why an output that it claims cannot be written, if so."""
        return ()

    # What is decided before anything is planned.

    def stored(self, index: int, kernel: Kernel) -> Sequence[int]:
        """The values that it needs of the epilogue for an output that it claims and that stores this one."""
        return (index,)

    def panel(self, frame: Frame) -> int:
        """Columns of a tile that it walks several times before the next ones; 0 where one walk of the tile will do."""
        return 0

    def scope(self, value: Value) -> Scope | None:
        """How often a value that it claims is there (None: as its axes say; "element": in each sub-tile's lists)."""
        return None

    # The plan.

    def read(self, index: int, inputs: Inputs) -> EpilogueInput | None:
        """How it reads a leaf; None if another construct does."""
        leaf = inputs.leaf(index)
        return leaf if leaf.kind in self.reads else None

    def ahead(self, leaves: Sequence[EpilogueInput], frame: Frame, room: int) -> Sequence[EpilogueInput]:
        """The leaves, its own brought to shared memory ahead where they find room, in bytes."""
        return leaves

    def output(self, arg: Arg, index: int, planning: Planning) -> EpilogueOutput:
        """The plan of an output that it claims and has no word against."""
        raise NotImplementedError(f"{self.name} plans no outputs")

    def add(self, program: EpilogueProgram, planning: Planning) -> EpilogueProgram:
        """The program with what else this construct has decided, such as one more of its `parts`."""
        return program

    def explained(self, output: EpilogueOutput, program: EpilogueProgram) -> tuple[str, str]:
        """How an output reaches memory, and why: two phrases for `explain`."""
        if output.store.adds:
            return (
                "atomics that add",
                "`reduce atomic`: `red.add.f32` for each element, in no order; nothing is read of it",
            )
        if program.by_lanes:
            return "16 bytes a lane", "each lane has all that it needs of its 32 columns, and 128 columns fill sectors"
        if output.store.via == "direct" and output.store.buffer is None:
            return "plain stores", "its columns are not neighbors in memory, or shared memory has no room to stage it"
        chosen, why = _STORED[output.store.via]
        if program.problem.groups is not None and output.store.via == "either":
            why = "TMA clips at the end of a tensor: it stores runs of 32 rows that are all of one group"
            why += "" if output.store.flag is None else ", where rows start on 16 bytes"
        return chosen, why

    # What the plan takes: for each of its inputs, for each of its outputs, and for all of them.

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        """The parameters through which it reads an input."""
        return ()

    def input_flags(self, leaf: EpilogueInput) -> Sequence[KernelParam]:
        """Parameters that say how it does. They come after those of all inputs."""
        return ()

    def input_maps(self, leaf: EpilogueInput, space: Space) -> Sequence[TensorMap]:
        """The tensor maps through which TMA does."""
        return ()

    def input_buffers(self, leaf: EpilogueInput) -> Sequence[SmemBuffer]:
        """The shared memory that it takes (offsets not yet set, as of all buffers here)."""
        return ()

    def output_params(self, output: EpilogueOutput) -> Sequence[KernelParam]:
        """The parameters through which it writes an output."""
        return ()

    def output_maps(self, output: EpilogueOutput, space: Space) -> Sequence[TensorMap]:
        """The tensor maps through which TMA does."""
        return ()

    def output_buffers(self, output: EpilogueOutput) -> Sequence[SmemBuffer]:
        """The shared memory that it takes."""
        return ()

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        """Shared memory for all of them. Constructs may ask for the same buffer, which they then share."""
        return ()

    def barriers(self, program: EpilogueProgram) -> Sequence[NamedBarrier]:
        """The named barriers at which it has the epilogue's warps meet: `EPILOGUE_BARRIER`, or others, numbered 0."""
        return ()

    def memory(self, program: EpilogueProgram, start: Expr) -> GlobalMemory:
        """What it takes of global memory beside inputs and outputs; `start`: where its workspace would begin."""
        return GlobalMemory((), (), start)
