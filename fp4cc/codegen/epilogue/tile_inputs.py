"""Inputs with a value for each element: loaded ahead by TMA where the plan says so, else by the threads."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.reading import WIDTHS, column_text, offset_text, stride_bytes
from fp4cc.codegen.fragments import Block, Call, Fragment, fragment
from fp4cc.ir.lowered import OneEach
from fp4cc.ir.lowered_epilogue import EpilogueInput, Half, LoadPlan

_ONE_LANE = "if lane == 0:"
_READ = (
    "# All lanes have read it, before TMA, which writes through the async proxy, may fill it again.",
    "prims.fence_proxy(prims.Proxy.ASYNC_SHARED, space=prims.SharedSpace.shared_cta)",
    "prims.bar_warp_sync(cute.arch.FULL_MASK)",
)


class TileInputs(Construct):
    """Rows of 32 columns of each such input. For those that come ahead a slot is read and then filled again."""

    name = "tile_inputs"

    def setup(self) -> Fragment:
        lines: list[str] = []
        for leaf, load in self._loaded():
            lines.append(f"start_barriers({load.barriers}, {load.stages}, warp, lane)")
            lines.append(f"{leaf.name}_loads = Int32(0)  # sub-tiles of {leaf.name} read so far")
            condition = self._condition(leaf)
            if condition is not None:
                lines.append(f"{leaf.name}_ahead = {condition}")
        return fragment(*lines)

    def ahead(self) -> Fragment:
        found: list[Block] = []
        for leaf, load in self._loaded():
            count = min(load.stages, self.program.tile_n // self.program.subtile)
            slot = f"({leaf.name}_loads + i & {load.stages - 1}) * 4 + warp"
            each = self._load_ahead(leaf, load, slot, "first_column + i * column_step")
            body = Block(_ONE_LANE, (Block(f"for i in cutlass.range_constexpr({count}):", (each,)),))
            found.append(body if self._condition(leaf) is None else Block(f"if {leaf.name}_ahead:", (body,)))
        return tuple(found)

    def tile_end(self) -> Fragment:
        """Where no slot is filled again within a tile, the next tile may fill all that lanes have read."""
        later = not isinstance(self.lowered.walk, OneEach)
        return fragment(*(_READ if later and any(self._at_once(load) for _, load in self._loaded()) else ()))

    def _at_once(self, load: LoadPlan) -> bool:
        """Whether all loads of a tile are under way before its first is read."""
        return self.lowered.engine is None and self.program.tile_n // self.program.subtile <= load.stages

    def lists(self) -> None:
        both: dict[int, str] = {}  # the names of 64 columns that hold two halves
        for leaf in self.epilogue.inputs("tile"):
            if leaf.half is not None and not leaf.half.adjacent:
                self.epilogue.steps += self._taking_turns(leaf, leaf.half, both)
            else:
                self.epilogue.steps.append(self._tile(leaf))

    def _taking_turns(self, leaf: EpilogueInput, half: Half, both: dict[int, str]) -> list[Fragment]:
        """A half whose columns take turns with the other's in less than a sub-tile: 64 columns hold 32 of each."""
        steps: list[Fragment] = []
        whole = self.kernel.values[leaf.value].operands[0]
        if whole not in both:
            both[whole] = self.names.new(f"{leaf.source}_both")
            steps.append(self._by_threads(leaf, both[whole], "2 * column", "2 * (n_size - column)", 64))
        name = self.epilogue.vectors[leaf.value] = self.names.new(f"{leaf.name}_columns")
        return [*steps, fragment(f"{name} = half_of({both[whole]}, {half.group}, {half.part})")]

    def _tile(self, leaf: EpilogueInput) -> Fragment:
        name = self.names.new(f"{leaf.name}_columns")
        self.epilogue.vectors[leaf.value] = name
        if leaf.load is not None:
            return self._ahead(leaf, leaf.load, name)
        first = column_text(leaf, "column", self.program.subtile)
        return self._by_threads(leaf, name, first, "n_size - column", self.program.subtile)

    def _by_threads(self, leaf: EpilogueInput, name: str, first: str, left: str, count: int) -> Fragment:
        """Each thread loads `count` columns of its row from column `first` on; those from `left` on are 0."""
        width = WIDTHS[leaf.dtype]
        address = self.names.new(f"{leaf.name if count == 32 else leaf.source}_address")
        where = "row_valid"
        if leaf.value in self.epilogue.guarded:
            where = f"both(row_valid, {self.epilogue.guarded[leaf.value]})"
        found = f"{address} = global_address({leaf.param_name}, {offset_text(self.program, leaf, first)}, {width})"
        stride = stride_bytes(self.program, leaf)
        number = "" if count == 32 else f", {count}"
        one_by_one = f"{name} = load_elements(load_{leaf.dtype}, {address}, {stride}, {left}, {where}{number})"
        if leaf.vector is None:
            return fragment(found, one_by_one)
        at_once = f"{name} = load_vectors(unpack_{leaf.dtype}, {address}, {width}, {left}, {where}{number})"
        if leaf.vector is True:
            return fragment(found, at_once)
        either = Block(f"if {leaf.flag} != 0:", fragment(at_once), fragment(one_by_one))
        return fragment(found, f"{name} = [Float32(0.0)] * {count}", either)

    def _ahead(self, leaf: EpilogueInput, load: LoadPlan, name: str) -> Fragment:
        """Read a sub-tile from its slot, and have TMA load into it what comes `stages` sub-tiles later."""
        slot, later = self.names.new(f"{leaf.name}_slot"), self.names.new(f"{leaf.name}_later")
        subtile, parity = self.program.subtile, f"{leaf.name}_loads >> {load.stages.bit_length() - 1} & 1"
        body = fragment(
            f"wait(barrier_at({load.barriers}, {slot}), {parity})",
            f"{name} = read_row(unpack_{leaf.dtype}, {load.buffer}, {slot}, lane, {load.row_bytes})",
            *(() if self._at_once(load) else _READ),
        )
        if self.program.tile_n // subtile > load.stages:
            inside = f"if both({later} >= n0, {later} < n0 + {self.program.tile_n}):"
            again = Block(_ONE_LANE, (Block(inside, (self._load_ahead(leaf, load, slot, later),)),))
            body = fragment(body, f"{later} = column + {load.stages} * column_step", again)
        if self._condition(leaf) is not None:
            otherwise = () if leaf.vector is True else (self._one_by_one(leaf, name),)
            zeros = f"{name} = [Float32(0.0)] * {subtile}"
            body = fragment(zeros, Block(f"if {leaf.name}_ahead:", body, otherwise))
        slot_at = f"{slot} = ({leaf.name}_loads & {load.stages - 1}) * 4 + warp"
        return fragment(slot_at, body, f"{leaf.name}_loads += 1")

    def _load_ahead(self, leaf: EpilogueInput, load: LoadPlan, slot: str, column: str) -> Call:
        batch = ", batch" if leaf.batch_stride != 0 else ""
        place = f"({column_text(leaf, column, self.program.subtile)}, m0 + 32 * warp{batch})"
        arguments = (load.tensor_map, load.buffer, load.barriers, str(load.row_bytes), slot, place)
        return Call("load_ahead", arguments)

    def _condition(self, leaf: EpilogueInput) -> str | None:
        """The condition under which TMA loads an input; None: always."""
        parts = [] if leaf.vector is True else [f"{leaf.flag} != 0"]
        parts += [self.epilogue.guarded[leaf.value]] if leaf.value in self.epilogue.guarded else []
        if len(parts) == 2:
            return f"both({parts[0]}, {parts[1]})"
        return parts[0] if parts else None

    def _loaded(self) -> list[tuple[EpilogueInput, LoadPlan]]:
        return [(leaf, leaf.load) for leaf in self.epilogue.inputs("tile") if leaf.load is not None]

    def _one_by_one(self, leaf: EpilogueInput, name: str) -> Call:
        """Load a sub-tile element by element."""
        where = "row_valid"
        if leaf.value in self.epilogue.guarded:
            where = f"both(row_valid, {self.epilogue.guarded[leaf.value]})"
        first = column_text(leaf, "column", self.program.subtile)
        address = f"global_address({leaf.param_name}, {offset_text(self.program, leaf, first)}, {WIDTHS[leaf.dtype]})"
        stride = stride_bytes(self.program, leaf)
        return Call(f"{name} = load_elements", (f"load_{leaf.dtype}", address, stride, "n_size - column", where))
