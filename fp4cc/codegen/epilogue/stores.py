"""How results leave: packed to words, staged in shared memory, and stored by TMA or by the warp itself."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct, Epilogue
from fp4cc.codegen.epilogue.quantize import (
    lane_stores,
    quantize_lines,
    quantized_coordinates,
    quantized_place,
    store_lines,
)
from fp4cc.codegen.epilogue.reading import WIDTHS, number_of_row
from fp4cc.codegen.fragments import Block, Call, Fragment, Statement, fragment
from fp4cc.codegen.placing import rows_end
from fp4cc.codegen.strides import bytes_text, offset, stride_text
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueOutput, StorePlan
from fp4cc.ir.turned import TURNED

_PER_WORD = {4: 1, 2: 2, 1: 4}
_ONE_LANE = "if lane == 0:"
_WARP = "prims.bar_warp_sync(cute.arch.FULL_MASK)"
_BITS = {4: "b32", 2: "b16", 1: "b8"}
#: Epilogues that are little beside their stores: their constructs, and the operations of their values.
_SHORT = frozenset(("hoisted", "elements", "uniform", "stores"))
_LIGHT = frozenset(("arg", "const", "transpose", "matmul", "tensor_scale", "mul", "add", "cast", "relu"))


class Stores(Construct):
    """The stores of all outputs: of a sub-tile each, those that are staged together between two barriers of a warp."""

    name = "stores"

    def __init__(self, epilogue: Epilogue) -> None:
        super().__init__(epilogue)
        self._staged = [
            output
            for output in self.program.outputs
            if output.store.buffer is not None and output.store.via != "engine"
        ]
        self._by_tma = [output for output in self._staged if output.store.via != "direct"]
        self._stages = max((output.store.stages for output in self._by_tma), default=1)
        self._lean = self._is_lean()

    def _is_lean(self) -> bool:
        """Whether sub-tiles that leave by TMA, all of them, have a text of their own, without another way for them.

        Where sums stay where the engine made them until a sub-tile is read, as in tensor memory, and where the stores
        are most of the text: a second one would cost others more than it saves.
        """
        plain = all(output.kind == "plain" for output in self.program.outputs)
        short = _SHORT.issuperset(self.program.constructs)
        light = all(value.op in _LIGHT for value in self.program.kernel.values)
        stay = self.lowered.exchange is None and self.lowered.promotion is None  # until a sub-tile is read
        alone = self.program.problem.groups is None and not self.program.by_lanes
        return bool(self._by_tma) and self._by_tma == self._staged and plain and short and light and stay and alone

    @property
    def whole_if(self) -> tuple[str, ...]:
        """The parameters that must not be 0 for sub-tiles to have the text of `whole_subtile`; () where it is the only
        one, or there is none."""
        flags = (output.store.flag for output in self._by_tma if output.store.flag is not None)
        return tuple(flags) if self._lean else ()

    def setup(self) -> Fragment:
        found: list[str] = []
        for output in self._staged:
            slab = f"shared_address({output.store.buffer}) + warp * {32 * output.store.row_bytes}"
            found.append(f"{output.arg}_slab = {slab}  # this warp's 32 rows of a stage")
        if self._stages > 1:
            found.append("store_slot = Int32(0)  # the stage of the next sub-tile")
        return fragment(*found)

    @property
    def _fence(self) -> str:
        """What comes between the threads' accesses and the TMA that stores.

        Those to the slab; and where threads have read from global memory what TMA overwrites, these as well.
        """
        written = {output.arg for output in self._by_tma}
        if any((i.arg or i.name) in written and i.load is None for i in self.program.inputs):
            return "prims.fence_proxy(prims.Proxy.ASYNC)"
        return "prims.fence_proxy(prims.Proxy.ASYNC_SHARED, space=prims.SharedSpace.shared_cta)"

    @property
    def is_whole(self) -> bool:
        """Whether `per_subtile` is `whole_subtile`."""
        return self._lean and not self.whole_if

    def whole_subtile(self) -> Fragment:
        """Where every output leaves by TMA: one elected lane issues, and no lane but that waits for anything.

        `elect.sync` elects the same lane each time (PTX ISA 9.7.15, "elect.sync"), and the compiler of PTX knows that
        what one such lane does is the same for a warp, so that coordinates need no loop over lanes.
        """
        results = self.epilogue.results
        found: list[str | Statement] = [f"prims.cp_async_bulk_wait_group({self._stages - 1}, read=True)", _WARP]
        for output in self._staged:
            found += _stage(self.lowered, output, results[output.value], (), "stage_row_of_warp")
        found += [self._fence, _WARP]
        issued = [_copy_by_tma(self.lowered, output) for output in self._staged]
        found.append(Block("if prims.elect_sync():", (*issued, *fragment("prims.cp_async_bulk_commit_group()"))))
        found += self._next_slot()
        for output in self.program.outputs:
            if output.store.buffer is None:
                found += _registers(self.lowered, output, results[output.value])
        return fragment(*found)

    def _next_slot(self) -> list[str]:
        if self._stages == 1:
            return []
        return [f"store_slot = {'store_slot ^ 1' if self._stages == 2 else f'(store_slot + 1) % {self._stages}'}"]

    def rows(self) -> Fragment:
        """The numbers of the rows that this thread's are stored as; -1 for none."""
        found: list[Fragment] = []
        for output in self.program.outputs:
            numbers = output.numbers
            if numbers is not None:
                row = _number(output)
                found.append(fragment(number_of_row(self.program, numbers, row)))
                found.append(fragment(f"{row} = where_int({row}_there, {row}, -1)"))
        return fragment(*found)

    def per_subtile(self) -> Fragment:
        if self.is_whole:
            return self.whole_subtile()
        results, factors = self.epilogue.results, self.epilogue.factors
        found: list[str | Statement] = []
        if self.program.by_lanes:
            for output in self.program.outputs:
                if output.kind == "plain":
                    found += _by_lanes(self.lowered, output, results[output.value])
                    continue
                found += quantize_lines(self.lowered, output, results[output.value], factors.get(output.arg, ()))
                found += lane_stores(self.lowered, output)
                found += store_lines(self.lowered, output)
            return fragment(*found)
        if self._by_tma:
            what = "the stage's last store has read it"
            wait = f"prims.cp_async_bulk_wait_group({self._stages - 1}, read=True)  # {what}"
            found.append(Block(_ONE_LANE, fragment(wait)))
        if self._staged:
            found.append(_WARP)
        for output in self._staged:
            found += _stage(self.lowered, output, results[output.value], factors.get(output.arg, ()))
        if self._by_tma:
            found.append(self._fence)
        if self._staged:
            found.append(_WARP)
        for output in self._staged:
            found += _leave(self.lowered, output)
        if self._by_tma:
            found.append(Block(_ONE_LANE, fragment("prims.cp_async_bulk_commit_group()")))
        found += self._next_slot()
        for output in self._staged:
            found += store_lines(self.lowered, output)
        for output in self.program.outputs:
            if output.store.buffer is None and output.kind == "plain":
                found += _registers(self.lowered, output, results[output.value])
        return fragment(*found)

    def finish(self) -> Fragment:
        if not self._by_tma:
            return ()
        wait = fragment("prims.cp_async_bulk_wait_group(0, read=True)")
        return wait if self._lean else (Block(_ONE_LANE, wait),)


def _stage(
    lowered: LoweredKernel, output: EpilogueOutput, values: str, factor: Fragment, whole_row: str = "stage_row"
) -> Fragment:
    """Pack a line of 32 values and write it to the slab; `whole_row`: by what, where it is whole chunks of 16 bytes."""
    if lowered.kernel.arg(output.arg).turned:
        raise TypeError(f"{output.arg} is stored in another order by lanes alone")
    words = f"{output.arg}_words"
    if output.quantize is not None:
        lines = quantize_lines(lowered, output, values, factor)
    else:
        step = _PER_WORD[_width(output)]
        lines = fragment(f"{words} = [pack_{output.dtype}({values}[j : j + {step}]) for j in range(0, 32, {step})]")
    stage = whole_row if output.store.row_bytes % 16 == 0 else "stage_row_of_words"
    return fragment(lines, f"{stage}({_slab(output)}, lane, {words})")


def _slab(output: EpilogueOutput) -> str:
    store = output.store
    if store.stages == 1:
        return f"{output.arg}_slab"
    return f"{output.arg}_slab + store_slot * {_stage_bytes(store)}"


def _stage_bytes(store: StorePlan) -> int:
    return 4 * 32 * store.row_bytes


def _leave(lowered: LoweredKernel, output: EpilogueOutput) -> Fragment:
    store = output.store
    if output.numbers is not None:
        return (_rows_out(lowered, output),)
    if store.via == "tma":
        return fragment(_tma(lowered, output))
    copy = Call("add_rows_to" if store.adds else "copy_rows_out", (_slab(output), *_place(lowered, output)))
    if store.via == "direct":
        return (copy,)
    conditions = [] if store.flag is None else [f"{store.flag} != 0"]
    if lowered.epilogue.problem.groups is not None:  # TMA would clip at the end of all rows
        conditions.append(f"m0 + 32 * warp + 32 <= {rows_end(lowered)}")
    condition = conditions[0] if len(conditions) == 1 else f"both({', '.join(conditions)})"
    return (Block(f"if {condition}:", (_tma(lowered, output),), (copy,)),)


def _number(output: EpilogueOutput) -> str:
    """The name of the number of this thread's row."""
    return f"{output.arg}_row"


def _rows_out(lowered: LoweredKernel, output: EpilogueOutput) -> Call:
    """The store of a slab's rows, each to its own place."""
    width = _width(output)
    arguments = (
        _slab(output),
        f"global_address({output.param_name}, column, {width})",
        bytes_text(width, stride_text(lowered.epilogue.problem, output.row_stride)),
        "lane",
        _number(output),
        f"row_bytes={output.store.row_bytes}",
        f"width={width}",
        "units=n_size - column",
    )
    return Call("copy_rows_to", arguments)


def _place(lowered: LoweredKernel, output: EpilogueOutput) -> list[str]:
    """Where a slab goes, for `copy_rows_out`."""
    if output.quantize is not None:
        return quantized_place(lowered, output)
    width = _width(output)
    return [
        _address(lowered, output, "m0 + 32 * warp"),
        bytes_text(width, stride_text(lowered.epilogue.problem, output.row_stride)),
        "lane",
        f"row_bytes={output.store.row_bytes}",
        f"width={width}",
        f"rows={rows_end(lowered)} - m0 - 32 * warp",
        "units=n_size - column",
    ]


def _tma(lowered: LoweredKernel, output: EpilogueOutput) -> Block:
    store = output.store
    at = "store_slot * 4 + warp" if store.stages > 1 else "warp"
    source = f"{store.buffer}.subview(({at}) * {32 * store.row_bytes})"
    inner, outer = ("column", "m0 + 32 * warp") if output.quantize is None else quantized_coordinates(output)
    coordinates = f"({inner}, {outer}{', batch' if lowered.epilogue.problem.batch_axes else ''})"
    arguments = (f"{store.tensor_map}.get_ptr()", source, coordinates)
    return Block(_ONE_LANE, (Call("prims.cp_async_bulk_tensor_global_shared_cta", arguments),))


def _copy_by_tma(lowered: LoweredKernel, output: EpilogueOutput) -> Call:
    """The same of a plain output, by the thread that comes here. The slab's place is spelled as where it is written."""
    store = output.store
    slot = f" + store_slot * {_stage_bytes(store)}" if store.stages > 1 else ""
    source = f"{store.buffer}.subview(warp * {32 * store.row_bytes}{slot})"
    coordinates = f"(column, m0 + 32 * warp{', batch' if lowered.epilogue.problem.batch_axes else ''})"
    arguments = (f"{store.tensor_map}.get_ptr()", source, coordinates)
    return Call("prims.cp_async_bulk_tensor_global_shared_cta", arguments)


def _registers(lowered: LoweredKernel, output: EpilogueOutput, values: str) -> Fragment:
    """One predicated store a value: for results whose columns are not adjacent in memory."""
    width = _width(output)
    pitch = bytes_text(width, stride_text(lowered.epilogue.problem, output.column_stride))
    words = f"{output.arg}_words"
    address, bits, valid = _address(lowered, output, "row"), f'"{_BITS[width]}"', "row_valid"
    if output.numbers is not None:
        address, valid = _address(lowered, output, _number(output)), f"{_number(output)} >= 0"
    return fragment(
        f"{words} = [pack_{output.dtype}([x] * {_PER_WORD[width]}) for x in {values}]",
        Call("store_elements", (address, pitch, words, bits, "n_size - column", valid))
        if not output.store.adds
        else Call("add_elements", (address, pitch, words, "n_size - column", valid)),
    )


def _by_lanes(lowered: LoweredKernel, output: EpilogueOutput, values: str) -> Fragment:
    """Pack this lane's columns, and store those of the lanes that share its row."""
    words, step, width = f"{output.arg}_words", _PER_WORD[_width(output)], _width(output)
    arguments = (_address(lowered, output, "row", "n0"), words, "lane", f"{width} * (n_size - n0)", "row_valid")
    first: object = f"range(0, 32, {step})"
    if lowered.kernel.arg(output.arg).turned:
        first = TURNED[::step]
    return fragment(
        f"{words} = [pack_{output.dtype}({values}[j : j + {step}]) for j in {first}]",
        Call("store_turned", arguments),
    )


def _address(lowered: LoweredKernel, output: EpilogueOutput, row: str, column: str = "column") -> str:
    where = offset(
        lowered.epilogue.problem,
        batch=(output.batch_stride, "batch"),
        row=(output.row_stride, row),
        column=(output.column_stride, column),
    )
    return f"global_address({output.param_name}, {where}, {_width(output)})"


def _width(output: EpilogueOutput) -> int:
    if not isinstance(output.dtype, str):
        raise TypeError(f"{output.arg} is quantized")
    return WIDTHS[output.dtype]
