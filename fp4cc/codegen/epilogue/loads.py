"""What the epilogue reads: scalars once a kernel, rows and columns once a tile, tile inputs with each sub-tile."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4cc.codegen.epilogue.elements import Column, Scalar
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.fragments import Block, Call, Fragment, fragment
from fp4cc.codegen.halves import whole_index
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.names import Names
from fp4cc.codegen.strides import bytes_text, offset, stride_text
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueProgram, Half, LoadPlan
from fp4cc.ir.lowered_wgmma import LoweredWgmma

#: Bytes of an element, and the 32-bit conversion of integers.
WIDTHS = {"f32": 4, "i32": 4, "u32": 4, "bf16": 2, "f16": 2, "e4m3": 1, "e5m2": 1}
_THREADS = 128
_ONE_LANE = "if lane == 0:"
_BARRIER = 1  # the named barrier of the epilogue warps


@dataclass
class Loads:
    """Emits loads; afterwards the printer knows the loaded values by name."""

    lowered: LoweredKernel
    names: Names
    printer: ValuePrinter
    vectors: dict[int, str] = field(default_factory=dict[int, str])  # values with 32 columns: the list's name
    guarded: dict[int, str] = field(default_factory=dict[int, str])  # inputs: the condition for reading them

    def scalars(self) -> list[str]:
        """Parameters by value get their name; device scalars are loaded."""
        lines: list[str] = []
        for leaf in self._inputs("scalar_param"):
            self.printer.known[leaf.value] = leaf.param_name
        for leaf in self._inputs("dim"):
            self.printer.known[leaf.value] = f"Float32({leaf.param_name})"
        for leaf in self._inputs("device_scalar"):
            lines.append(self._load(leaf, "0", "True"))
        states = [leaf.param_name for leaf in self._inputs("uniform")]
        states += [f"{o.quantize.rng}_ptr" for o in self.lowered.epilogue.outputs if o.quantize and o.quantize.rng]
        for state in dict.fromkeys(states):
            lines.append(f"{state}_words = load_4_words(global_address({state}, 0, 8), True)  # seed and offset")
        return lines

    def guards(self) -> list[str]:
        """The conditions under which old values are read."""
        lines: list[str] = []
        for leaf in self.lowered.epilogue.inputs:
            if leaf.guards:
                tests = [f"ne({self.printer.text(guard, lines, self.names)}, 0.0)" for guard in leaf.guards]
                text = tests[0]
                for test in tests[1:]:
                    text = f"either({text}, {test})"
                self.guarded[leaf.value] = self.names.new(f"reads_{leaf.name}")
                lines.append(f"{self.guarded[leaf.value]} = {text}")
        return lines

    def batch(self) -> list[str]:
        """Values of this tile's batch."""
        return [self._load(leaf, self._offset(leaf), "True") for leaf in self._inputs("batch")]

    def rows(self) -> list[str]:
        """Values of this thread's row."""
        return [self._load(leaf, self._offset(leaf), "row_valid") for leaf in self._inputs("row")]

    def column_values(self, printer: ValuePrinter) -> list[str]:
        """Values of one column, for the thread that stages it."""
        lines: list[str] = []
        for leaf in self._inputs("column"):
            column = self._column(leaf, "n0 + staged_column", 1)
            if leaf.half is not None and leaf.half.group is not None:
                name = self.names.new(f"{leaf.name}_column")
                lines.append(f"{name} = {column}")
                column = name
            text = self._load_text(leaf, self._offset(leaf, column), "in_range")
            printer.known[leaf.value] = self.names.new(leaf.name)
            lines.append(f"{printer.known[leaf.value]} = {text}")
        return lines

    def staging(self, printer: ValuePrinter, values: list[str]) -> Fragment:
        """All columns of the tile staged by all threads, between barriers of the epilogue warps."""
        steps = -(-self._columns() // _THREADS)
        # Hopper's warps have met since: they exchange a tile's sums before its epilogue.
        met = isinstance(self.lowered, LoweredWgmma)
        barrier = f"prims.barrier_cta_sync({_BARRIER}, thread_count={_THREADS})"
        each = [f"staged_column = thread + {_THREADS} * i", "in_range = n0 + staged_column < n_size", *values]
        for value in self.lowered.epilogue.staged:
            address = staged_address(self.lowered.epilogue, value, "staged_column")
            each.append(f"shared_store_f32({address}, {printer.known[printer.resolve(value)]})")
        return fragment(
            *([] if met else [f"{barrier}  # the last tile's columns have been read"]),
            Block(f"for i in cutlass.range_constexpr({steps}):", fragment(*each)),
            barrier,
        )

    def subtile(self) -> list[Fragment]:
        """Staged columns and tile inputs of a sub-tile, 32 values each."""
        steps = self._accumulators()
        for value in self.lowered.epilogue.staged:
            name = self.names.new(f"{self._column_name(value)}_columns")
            self.vectors[value] = name
            address = staged_address(self.lowered.epilogue, value, "column - n0")
            steps.append(fragment(f"{name} = shared_load_32_f32({address})"))
        both: dict[int, str] = {}
        for leaf in self._read_by_subtile():
            if leaf.half is not None and not leaf.half.adjacent:
                steps += self._taking_turns(leaf, leaf.half, both)
                continue
            steps.append(self._tile(leaf) if leaf.kind == "tile" else fragment(self._uniform(leaf)))
        return steps

    def _accumulators(self) -> list[Fragment]:
        """Halves that take turns in less than a sub-tile, sorted out of the 64 columns of two lists."""
        program = self.lowered.epilogue
        if program.group is None or program.group >= program.subtile:
            return []
        steps: list[Fragment] = []
        for index, value in enumerate(program.accumulators):
            part = index % 2
            name = self.vectors[value] = self.names.new(f"product{index + 1}_columns")
            columns = f"[*acc{numbered(index - part)}, *acc{numbered(index - part + 1)}]"
            steps.append(fragment(f"{name} = half_of({columns}, {program.group}, {part})"))
        return steps

    def _uniform(self, leaf: EpilogueInput) -> str:
        name = self.names.new(f"{leaf.name}_columns")
        self.vectors[leaf.value] = name
        first = self._column(leaf, "column", self.lowered.epilogue.subtile)
        return f"{name} = {self._random(leaf, first)}"

    def _random(self, leaf: EpilogueInput, first: str) -> str:
        """32 random numbers of this row, the first of them of column `first`."""
        batch = "Int64(batch) * m_size + row" if self.lowered.epilogue.problem.batch_axes else "Int64(row)"
        index = f"({batch}) * {'n_size' if leaf.half is None else '2 * n_size'} + {first}"
        return f"uniform_columns({leaf.param_name}_words, {leaf.stream}, {index}, {leaf.vector is True})"

    def _taking_turns(self, leaf: EpilogueInput, half: Half, both: dict[int, str]) -> list[Fragment]:
        """A half whose columns take turns with the other's in less than a sub-tile: 64 columns hold 32 of each.

        `both` has the names of these 64 of values that were met before.
        """
        steps: list[Fragment] = []
        whole = self.lowered.epilogue.kernel.values[leaf.value].operands[0]
        if whole not in both:
            both[whole] = self.names.new(f"{leaf.source}_both")
            if leaf.kind == "uniform":
                parts = [self._random(leaf, "2 * column"), self._random(leaf, "2 * column + 32")]
                loaded = fragment(f"{both[whole]} = {parts[0]}", f"{both[whole]} += {parts[1]}")
            else:
                loaded = self._by_threads(leaf, both[whole], "2 * column", "2 * (n_size - column)", 64)
            steps.append(loaded)
        name = self.names.new(f"{leaf.name}_columns")
        self.vectors[leaf.value] = name
        return [*steps, fragment(f"{name} = half_of({both[whole]}, {half.group}, {half.part})")]

    def argument(self, value: int) -> Column | Scalar:
        """What `element` takes for a value."""
        program = self.lowered.epilogue
        if value in self.vectors:
            return Column(self.vectors[value])
        if value in program.accumulators:
            return Column(f"acc{numbered(program.accumulators.index(value))}")
        if value in program.staged or any(leaf.value == value for leaf in self._read_by_subtile()):
            raise KeyError(f"value {value} has no columns yet")
        return Scalar(self.printer.known[self.printer.resolve(value)])

    def _read_by_subtile(self) -> list[EpilogueInput]:
        return [*self._inputs("tile"), *self._inputs("uniform")]

    def _column_name(self, value: int) -> str:
        value = self.printer.resolve(value)
        for leaf in self.lowered.epilogue.inputs:
            if leaf.value == value:
                return leaf.name
        return self.printer.title(value)

    def _columns(self) -> int:
        """Columns of a tile as the epilogue sees it."""
        return self.lowered.epilogue.tile_n

    def _tile(self, leaf: EpilogueInput) -> Fragment:
        name = self.names.new(f"{leaf.name}_columns")
        self.vectors[leaf.value] = name
        if leaf.load is not None:
            return self._ahead(leaf, leaf.load, name)
        first = self._column(leaf, "column", self.lowered.epilogue.subtile)
        return self._by_threads(leaf, name, first, "n_size - column", self.lowered.epilogue.subtile)

    def _by_threads(self, leaf: EpilogueInput, name: str, first: str, left: str, count: int) -> Fragment:
        """Each thread loads `count` columns of its row from column `first` on; those from `left` on are 0."""
        width = WIDTHS[leaf.dtype]
        address = self.names.new(f"{leaf.name if count == 32 else leaf.source}_address")
        where = "row_valid"
        if leaf.value in self.guarded:
            where = f"both(row_valid, {self.guarded[leaf.value]})"
        found = f"{address} = global_address({leaf.param_name}, {self._offset(leaf, first)}, {width})"
        stride = self._stride_bytes(leaf)
        number = "" if count == 32 else f", {count}"
        one_by_one = f"{name} = load_elements(load_{leaf.dtype}, {address}, {stride}, {left}, {where}{number})"
        if leaf.vector is None:
            return fragment(found, one_by_one)
        at_once = f"{name} = load_vectors(unpack_{leaf.dtype}, {address}, {width}, {left}, {where}{number})"
        if leaf.vector is True:
            return fragment(found, at_once)
        either = Block(f"if {leaf.flag} != 0:", fragment(at_once), fragment(one_by_one))
        return fragment(found, f"{name} = [Float32(0.0)] * {count}", either)

    def setup(self) -> list[str]:
        """Once a kernel: the barriers of tile inputs that TMA loads ahead."""
        lines: list[str] = []
        for leaf, load in self._loaded():
            lines.append(f"start_barriers({load.barriers}, {load.stages}, warp, lane)")
            lines.append(f"{leaf.name}_loads = Int32(0)  # sub-tiles of {leaf.name} read so far")
            condition = self._condition(leaf)
            if condition is not None:
                lines.append(f"{leaf.name}_ahead = {condition}")
        return lines

    def ahead(self) -> Fragment:
        """Once a tile: have TMA load the first sub-tiles."""
        found: list[Block] = []
        for leaf, load in self._loaded():
            count = min(load.stages, self._columns() // self.lowered.epilogue.subtile)
            slot = f"({leaf.name}_loads + i & {load.stages - 1}) * 4 + warp"
            each = self._load_ahead(leaf, load, slot, "first_column + i * column_step")
            body = Block(_ONE_LANE, (Block(f"for i in cutlass.range_constexpr({count}):", (each,)),))
            found.append(body if self._condition(leaf) is None else Block(f"if {leaf.name}_ahead:", (body,)))
        return tuple(found)

    def _ahead(self, leaf: EpilogueInput, load: LoadPlan, name: str) -> Fragment:
        """Read a sub-tile from its slot, and have TMA load into it what comes `stages` sub-tiles later."""
        slot, later = self.names.new(f"{leaf.name}_slot"), self.names.new(f"{leaf.name}_later")
        subtile, parity = self.lowered.epilogue.subtile, f"{leaf.name}_loads >> {load.stages.bit_length() - 1} & 1"
        body = fragment(
            f"wait(barrier_at({load.barriers}, {slot}), {parity})",
            f"{name} = read_row(unpack_{leaf.dtype}, {load.buffer}, {slot}, lane, {load.row_bytes})",
            "# All lanes have read it, before TMA, which writes through the async proxy, may fill it again.",
            "prims.fence_proxy(prims.Proxy.ASYNC_SHARED, space=prims.SharedSpace.shared_cta)",
            "prims.bar_warp_sync(cute.arch.FULL_MASK)",
        )
        if self._columns() // subtile > load.stages:
            inside = f"if both({later} >= n0, {later} < n0 + {self._columns()}):"
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
        place = f"({self._column(leaf, column, self.lowered.epilogue.subtile)}, m0 + 32 * warp{batch})"
        arguments = (load.tensor_map, load.buffer, load.barriers, str(load.row_bytes), slot, place)
        return Call("load_ahead", arguments)

    def _condition(self, leaf: EpilogueInput) -> str | None:
        """The condition under which TMA loads an input; None: always."""
        parts = [] if leaf.vector is True else [f"{leaf.flag} != 0"]
        parts += [self.guarded[leaf.value]] if leaf.value in self.guarded else []
        if len(parts) == 2:
            return f"both({parts[0]}, {parts[1]})"
        return parts[0] if parts else None

    def _loaded(self) -> list[tuple[EpilogueInput, LoadPlan]]:
        return [(leaf, leaf.load) for leaf in self._inputs("tile") if leaf.load is not None]

    def _one_by_one(self, leaf: EpilogueInput, name: str) -> Call:
        """Load a sub-tile element by element."""
        where = "row_valid"
        if leaf.value in self.guarded:
            where = f"both(row_valid, {self.guarded[leaf.value]})"
        first = self._column(leaf, "column", self.lowered.epilogue.subtile)
        address = f"global_address({leaf.param_name}, {self._offset(leaf, first)}, {WIDTHS[leaf.dtype]})"
        stride = self._stride_bytes(leaf)
        return Call(f"{name} = load_elements", (f"load_{leaf.dtype}", address, stride, "n_size - column", where))

    def _stride_bytes(self, leaf: EpilogueInput) -> str:
        return bytes_text(WIDTHS[leaf.dtype], stride_text(self.lowered.epilogue.problem, leaf.column_stride))

    def _inputs(self, kind: str) -> list[EpilogueInput]:
        return [leaf for leaf in self.lowered.epilogue.inputs if leaf.kind == kind]

    def _column(self, leaf: EpilogueInput, column: str, step: int) -> str:
        """Where an input has the epilogue's `column`, which is a multiple of `step`."""
        return whole_index(leaf.half, column, "n_size", step)

    def _offset(self, leaf: EpilogueInput, column: str = "column") -> str:
        return offset(
            self.lowered.epilogue.problem,
            batch=(leaf.batch_stride, "batch"),
            row=(leaf.row_stride, "row"),
            column=(leaf.column_stride, column),
        )

    def _load(self, leaf: EpilogueInput, where: str, valid: str) -> str:
        text = self._load_text(leaf, where, valid)
        self.printer.known[leaf.value] = self.names.new(leaf.name)
        return f"{self.printer.known[leaf.value]} = {text}"

    def _load_text(self, leaf: EpilogueInput, where: str, valid: str) -> str:
        return f"load_{leaf.dtype}(global_address({leaf.param_name}, {where}, {WIDTHS[leaf.dtype]}), {valid})"


def staged_address(program: EpilogueProgram, value: int, column: str) -> str:
    """Where a staged value of a column of the tile is in shared memory."""
    first = program.staged.index(value) * (-(-program.tile_n // _THREADS) * _THREADS)
    place = f"({first} + {column})" if first else column if column.isidentifier() else f"({column})"
    return f"shared_address(columns_smem) + 4 * {place}"
