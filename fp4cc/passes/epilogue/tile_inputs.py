"""Inputs with a value for each element: TMA loads their sub-tiles ahead where it can and finds room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.lowered import KernelParam, SmemBuffer
from fp4cc.ir.lowered_epilogue import EPILOGUE_WARPS, SUBTILE, EpilogueInput, LoadPlan, Space
from fp4cc.ir.sizes import mul
from fp4cc.passes.epilogue.construct import Construct, Planning
from fp4cc.passes.epilogue.inputs import Inputs, pointer
from fp4cc.passes.epilogue.memory import ELEMENT_BYTES, SWIZZLE, in_order, subtile_map
from fp4cc.passes.problem.unzip import Frame
from fp4rt.manifest import Param, TensorMap

LOAD_STAGES = 2  # a power of two
#: Without a product all sub-tiles of a tile are loaded at once, as far as these bytes allow for several CTAs on an SM.
WHOLE_TILE, WHOLE_TILE_LIMIT = 4, 32 * 1024


class TileInputs(Construct):
    """Rows of 32 columns of each such input."""

    name = "tile_inputs"
    reads = ("tile",)

    def read(self, index: int, inputs: Inputs) -> EpilogueInput | None:
        leaf = super().read(index, inputs)
        return None if leaf is None else inputs.guarded(leaf)

    def ahead(self, leaves: Sequence[EpilogueInput], frame: Frame, room: int) -> Sequence[EpilogueInput]:
        """The narrow ones first; those that find no room are loaded by their threads."""
        plans = self._loads(leaves, frame, LOAD_STAGES if frame.accumulators else WHOLE_TILE)
        if not frame.accumulators and sum(load_bytes(load) for load in plans.values()) > WHOLE_TILE_LIMIT:
            plans = self._loads(leaves, frame, LOAD_STAGES)
        chosen: dict[int, LoadPlan] = {}
        for value, load in sorted(plans.items(), key=lambda item: load_bytes(item[1])):
            room -= load_bytes(load)
            if room >= 0:
                chosen[value] = load
        return [replace(leaf, load=chosen.get(leaf.value)) if leaf.kind in self.reads else leaf for leaf in leaves]

    def _loads(self, leaves: Sequence[EpilogueInput], frame: Frame, stages: int) -> dict[int, LoadPlan]:
        """How TMA can load each of the inputs that it can load, by value."""
        plans: dict[int, LoadPlan] = {}
        space = frame.problem
        if space.groups is not None and not space.ragged and not frame.accumulators:
            return plans  # TMA brings rows past a count, too: of what an earlier launch left, nobody wrote those
        for leaf in leaves:
            if leaf.kind in self.reads:
                ordered = in_order(frame.kernel.arg(leaf.source), leaf.column_stride, frame.problem)
                load = plan_load(leaf, ordered, stages)
                if load is not None:
                    plans[leaf.value] = load
        return plans

    def input_params(self, leaf: EpilogueInput, planning: Planning) -> Sequence[KernelParam]:
        return [] if leaf.load is not None and leaf.vector is True else [pointer(leaf, planning.kernel)]

    def input_flags(self, leaf: EpilogueInput) -> Sequence[KernelParam]:
        if leaf.vector is None or leaf.vector is True:
            return []
        return [KernelParam(leaf.flag, Param("i32", leaf.vector), "rows start on 16 bytes")]

    def input_maps(self, leaf: EpilogueInput, space: Space) -> Sequence[TensorMap]:
        if leaf.load is None:
            return []
        when = None if leaf.vector is True else leaf.vector
        name, swizzle = leaf.load.tensor_map, leaf.load.swizzle
        pitches = (leaf.row_stride, leaf.batch_stride)
        whole = space if leaf.half is None else replace(space, n=mul(space.n, 2))
        return [subtile_map(name, leaf.source, leaf.dtype, pitches, swizzle, when, whole)]

    def input_buffers(self, leaf: EpilogueInput) -> Sequence[SmemBuffer]:
        load = leaf.load
        if load is None:
            return []
        size, what = EPILOGUE_WARPS * 32 * load.row_bytes, f"sub-tiles of {leaf.name} on their way in"
        arrived = f"barriers: a sub-tile of {leaf.name} is there"
        return [
            SmemBuffer(load.buffer, 0, size, load.stages, 1024, what),
            SmemBuffer(load.barriers, 0, 8 * EPILOGUE_WARPS, load.stages, 8, arrived),
        ]


def plan_load(leaf: EpilogueInput, ordered: bool, stages: int) -> LoadPlan | None:
    """How TMA can load a tile input ahead; None where it cannot."""
    if leaf.kind != "tile" or leaf.vector is None or not ordered or (leaf.half and not leaf.half.adjacent):
        return None
    row_bytes = SUBTILE * ELEMENT_BYTES[leaf.dtype]
    return LoadPlan(
        tensor_map=f"{leaf.source}_load",  # one for both halves
        buffer=f"{leaf.name}_tiles",
        barriers=f"{leaf.name}_full",
        stages=stages,
        row_bytes=row_bytes,
        swizzle=SWIZZLE[row_bytes],
    )


def load_bytes(load: LoadPlan) -> int:
    """The shared memory that loading an input ahead takes, without its barriers."""
    return EPILOGUE_WARPS * 32 * load.row_bytes * load.stages
