"""What the template of products of few rows substitutes: how lanes load runs, make fragments of them, and multiply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fp4cc.codegen.context import SMEM, BufferText, Constant, Frame, frame, place_call
from fp4cc.codegen.epilogue.exchanged import exchanged_reads
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.fragments import Block, Call, Fragment, Function, Line, Listed, Statement, fragment
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.placing import PlacesText, of_group, places_text, rows_end
from fp4cc.codegen.scale_layout import divided
from fp4cc.codegen.scale_reading import ReaderText, whole_row
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.ir.lowered import Decode, LoweredKernel, Strip
from fp4cc.ir.lowered.decode import LANES

#: The widest load.
_LOAD_BYTES = 16


@dataclass(frozen=True, slots=True)
class ProductText:
    """A product's mainloop; `only_if`: the condition on the warp where only some make it."""

    only_if: str | None
    text: Fragment


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeText:
    """What the template substitutes beside the frame. `warps` run the epilogue."""

    tile_place: str
    places: PlacesText | None
    m0: str
    n0: str
    registers: int
    products: list[ProductText]
    exchange: str
    shares: int
    warps: int
    walk: WalkText


def template_context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, DecodeText]:
    """What templates/sm90/decode.py.j2 uses."""
    engine, problem, tile = lowered.engine_as(Decode), lowered.products, lowered.tile
    batched = bool(problem.batch_axes) and problem.groups is None
    by_batch = any(strip.operand.batched for pair in engine.pairs for strip in pair)
    around = frame(
        lowered,
        epilogue,
        title=_title(lowered),
        plan=_plan(lowered),
        constants=_constants(lowered),
        spaces=[SMEM],
        buffers=[BufferText.of_bytes(buffer) for buffer in lowered.smem.buffers],
        batched=batched,
        band=lowered.walk.band,
        ctas_per_sm=engine.ctas,
    )
    reads = exchanged_reads(lowered.epilogue, len(problem.accumulators), tile.n)
    return around, DecodeText(
        tile_place=place_call(batched, by_batch or "batch" in epilogue.uses),
        places=None if problem.groups is None else places_text(lowered, epilogue.uses, by_batch),
        m0=of_group(lowered, f"tile_m * {'TILE_M' if problem.groups is None else 'ROWS'}"),
        n0="tile_n * TILE_N" if lowered.epilogue.group is None else "tile_n * (TILE_N // 2)",
        registers=engine.lane_rows * 2 * engine.groups,
        products=list(_products(lowered, engine)),
        exchange=lowered.crossing.buffer,
        shares=engine.shares,
        warps=lowered.role_of("epilogue").warps,
        walk=walk_of_exchanged(lowered.epilogue, epilogue, around.uses, reads, rows_end(lowered)),
    )


def strip_functions(lowered: LoweredKernel) -> list[Function]:
    """The functions that find an operand's rows, load a run of one, and make words of two wide elements of it."""
    engine = lowered.engine_as(Decode)
    found: dict[str, list[Function]] = {}
    for strip in _strips(engine):
        text = _StripText(engine, strip)
        found[text.name] = text.functions()
    return [function for functions in found.values() for function in functions]


def _title(lowered: LoweredKernel) -> str:
    names = [f"{p.a.arg} ({p.a.name}) times {p.b.title} ({p.b.name})" for p in lowered.products.products]
    return f"{lowered.name}: {', '.join(names)} for {lowered.target}, at most {lowered.engine_as(Decode).rows} rows."


def _plan(lowered: LoweredKernel) -> str:
    engine = lowered.engine_as(Decode)
    return (
        f"A CTA makes {lowered.tile.n} columns. Its warps share K {engine.shares} times: each lane loads runs of "
        f"{engine.run} elements of rows, makes them {engine.pairs[0][0].wide} in registers, exactly, and multiplies "
        "with mma.sync, the weights on its left; four warps run the epilogue."
    )


def _constants(lowered: LoweredKernel) -> list[list[Constant]]:
    engine, tile = lowered.engine_as(Decode), lowered.tile
    blocks = len(lowered.products.accumulators) * tile.n // engine.columns
    return [
        [
            Constant("TILE_M", tile.m),
            Constant("TILE_N", tile.n),
            Constant("THREADS", lowered.launch.threads),
            Constant("WARP_COLUMNS", engine.columns, "that a warp makes"),
            Constant("BLOCKS", blocks, "of so many columns"),
            Constant("SHARES", engine.shares, "of K"),
            Constant("GROUPS", engine.groups, "of 8 rows of x"),
            Constant("ROWS", engine.rows),
            Constant("PITCH", lowered.crossing.pitch, "bytes between rows of sums"),
            Constant("AHEAD", engine.ahead, "steps of weights on their way"),
        ]
    ]


# The mainloop.


def _products(lowered: LoweredKernel, engine: Decode) -> Iterator[ProductText]:
    slots = len(lowered.products.accumulators)
    for number, (product, (a, b)) in enumerate(zip(lowered.products.products, engine.pairs, strict=True)):
        x, w, steps = _StripText(engine, a), _StripText(engine, b), f"k_tiles{numbered(number)}"
        only_if = f"block // (TILE_N // WARP_COLUMNS) == {product.slot}" if slots > 1 else None
        text = _mainloop(engine, x, w, steps, f"{numbered(number)}", grouped=lowered.products.groups is not None)
        yield ProductText(only_if, fragment(*text))


def _mainloop(
    engine: Decode, x: _StripText, w: _StripText, steps: str, number: str, *, grouped: bool
) -> Iterator[str | Statement]:
    rows, each = engine.lane_rows, engine.lane_rows * w.words
    first = "lane // 4" if not grouped else "m0 + lane // 4"
    yield Line(f"# {w.strip.operand.title} times {x.strip.operand.arg}")
    yield Call(
        f"x_rows{number} = {x.starts}", tuple(x.starts_arguments(first, "GROUPS", "group_end" if grouped else None))
    )
    yield Call(f"w_rows{number} = {w.starts}", tuple(w.starts_arguments("column", str(rows))))
    yield f"ahead{number} = cutlass.Array(Int32, AHEAD * {each}, space=cutlass.AddressSpace.rmem)"
    load = fragment(
        Block(
            f"for row in cutlass.range_constexpr({rows}):",
            fragment(
                Call(f"loaded = {w.run}", tuple(w.run_arguments(f"w_rows{number}[row]", "next_step"))),
                f"keep(ahead{number}, {each} * i + {w.words} * row, loaded)",
            ),
        )
    )
    yield Block("for i in cutlass.range_constexpr(AHEAD):", fragment("next_step = share + SHARES * i", load))
    portions = engine.run // w.portion
    multiply = fragment(
        Listed("xs", Call(x.run, tuple(x.run_arguments("row", "at"))), f"row in x_rows{number}"),
        f"ws = [kept(ahead{number}, {each} * i + {w.words} * row, {w.words}) for row in range({rows})]",
        "next_step = at + SHARES * AHEAD",
        load,
        Block(
            f"for j in cutlass.range_constexpr({portions}):",
            fragment(
                f"weights = [{w.pairs}(run, j) for run in ws]",
                f'multiply_eights(acc_registers, "{w.strip.wide}", weights, [{x.pairs}(run, j) for run in xs])',
            ),
        ),
    )
    yield Block(
        f"for step in cutlass.range(share, {steps}, SHARES * AHEAD, unroll=1):",
        fragment(Block("for i in cutlass.range_constexpr(AHEAD):", fragment("at = step + SHARES * i", multiply))),
    )


# Operands.


def _strips(engine: Decode) -> list[Strip]:
    return list(dict.fromkeys(strip for pair in engine.pairs for strip in pair))


@dataclass(frozen=True, slots=True)
class _StripText:
    """A strip as text. Of an argument that is read in several ways the strips are numbered."""

    engine: Decode
    strip: Strip

    @property
    def name(self) -> str:
        """What its functions are called after."""
        arg = self.strip.operand.arg
        others = [other for other in _strips(self.engine) if other.operand.arg == arg]
        return f"{arg}{numbered(others.index(self.strip))}"

    @property
    def starts(self) -> str:
        """The function that finds rows."""
        return f"{self.name}_starts"

    @property
    def run(self) -> str:
        """The function that loads a run."""
        return f"{self.name}_run"

    @property
    def pairs(self) -> str:
        """The function that makes words of two wide elements."""
        return f"{self.name}_pairs"

    @property
    def code_words(self) -> int:
        """Words of codes of a run."""
        return self.engine.run * self.strip.operand.bits // 32

    @property
    def words(self) -> int:
        """Words of a run: its codes, and one of scales."""
        return self.code_words + (self.strip.scales is not None)

    @property
    def portion(self) -> int:
        """Elements that are made wide together: whole words of the codes of both operands."""
        return 16 if any(strip.operand.bits == 6 for strip in _strips(self.engine)) else 8

    @property
    def per_run(self) -> int:
        """Scales of a run."""
        return max(1, self.engine.run // self.strip.block) if self.strip.block else 1

    @property
    def reader(self) -> ReaderText | None:
        """How its scales are read."""
        return None if self.strip.scales is None else ReaderText(self.name, self.strip.scales)

    def functions(self) -> list[Function]:
        """All of them."""
        reader = self.reader
        return [*(reader.functions() if reader is not None else []), self._starts(), self._run(), self._pairs()]

    def starts_arguments(self, first: str, count: str, end: str | None = None) -> list[str]:
        """Those of a call of `starts`. `end`: the row after the last, where that is not the size of the axis."""
        scales = [self.strip.scales.param] if self.strip.scales is not None else []
        sizes = [end if end is not None and name == self.strip.rows else name for name in self._sizes()]
        return [self.strip.pointer, *scales, first, count, *sizes]

    def run_arguments(self, start: str, step: str) -> list[str]:
        """Those of a call of `run`."""
        return [start, step, "part", *self._run_sizes()]

    def _sizes(self) -> list[str]:
        """What `starts` needs by its name in the kernel."""
        strip, reader = self.strip, self.reader
        batch = ["batch"] if strip.all_rows is not None else []
        own = [n for n in (strip.rows_of.first, strip.all_rows, strip.row_bytes, strip.rows) if n is not None]
        return list(dict.fromkeys([*batch, *own, *(reader.arguments if reader is not None else [])]))

    def _run_sizes(self) -> list[str]:
        read = [] if self.reader is None else [name for name in self.reader.arguments if name != "batch"]
        return list(dict.fromkeys([self.strip.row_bytes, *read]))

    def _starts(self) -> Function:
        strip, reader = self.strip, self.reader
        row = whole_row(strip.rows_of, "row")
        number = f"Int64({row})" if strip.all_rows is None else f"(Int64(batch) * {strip.all_rows} + {row})"
        codes = f"codes = global_address(codes_ptr, {number} * {strip.row_bytes}, 1)"
        found = ["codes", f"row < {strip.rows}"]
        each: list[str] = ["row = first + 8 * i", codes]
        if reader is not None:
            each.append(f"scales = global_address(scales_ptr, {reader.row_offset('row')}, 1)")
            found.append("scales")
        each.append(f"found.append(({', '.join(found)}))")
        body = fragment("found = []", Block("for i in range(count):", fragment(*each)), "return found")
        scales = ["scales_ptr"] if reader is not None else []
        doc = f"Where rows first, first + 8, ... of {strip.operand.arg} start, and whether there is such a row."
        return Function(self.starts, ("codes_ptr", *scales, "first", "count", *self._sizes()), doc, body)

    def _run(self) -> Function:
        strip, reader = self.strip, self.reader
        run_bytes = 4 * self.code_words
        width = next(n for n in (_LOAD_BYTES, 8, 4) if run_bytes % n == 0)
        load = "load_run" if strip.operand.role == "B" else "load_reused_run"
        left = f"{strip.row_bytes} - offset"
        lines: list[str | Statement] = [
            f"codes, valid{', scales' if reader is not None else ''} = start",
            f"offset = (step * {LANES} + part) * {run_bytes}",
        ]
        arguments = ("codes + offset", str(run_bytes // width), str(width), left, "valid")
        if reader is None:
            lines.append(Call(f"return {load}", arguments))
        else:
            lines += [Call(f"words = {load}", arguments), *self._scales(reader), "return [*words, scale]"]
        what = "codes" if reader is None else "codes and scales"
        doc = f"The {what} of {strip.operand.arg} of this lane's run of a step, of a row; zeros past the ends."
        return Function(self.run, ("start", "step", "part", *self._run_sizes()), doc, fragment(*lines))

    def _scales(self, reader: ReaderText) -> list[str]:
        """The statements that load a run's scales to the bytes of a word."""
        block, run, blocks = self.strip.block, self.engine.run, reader.reader.blocks
        if not block:
            first = "0"
        elif block <= run:
            first = f"(step * {LANES} + part) * {run // block}" if run > block else f"step * {LANES} + part"
        else:
            first = divided(f"(step * {LANES} + part)", block // run)
        together = reader.reader.width == self.per_run and not reader.reader.partial
        lines = [f"k = {first}"]
        if together or self.per_run == 1:
            load = {1: "load_b8", 2: "load_b16", 4: "load_b32"}[self.per_run]
            lines.append(f"scale = {load}(scales + {reader.block_offset('k')}, both(valid, k < {blocks}))")
        else:
            each = f"load_b8(scales + {reader.block_offset('(k + i)')}, both(valid, k + i < {blocks}))"
            lines.append(f"scale = bytes_of([{each} for i in range({self.per_run})], {self.per_run})")
        return lines

    def _pairs(self) -> Function:
        strip, portion = self.strip, self.portion
        words = portion * strip.operand.bits // 32
        turns, element = self.engine.turns, strip.operand.element
        some = f"run[{words} * i : {words} * i + {words}]"
        if element == "e2m1" and turns:
            made = f'turns_of_e2m1({some}, "{strip.wide}")'
        else:
            made = f'pairs_of_{element}({some}, "{strip.wide}")'
            made = f"in_turns({made})" if turns else made
        lines = [f"pairs = {made}"]
        if strip.scales is not None:
            wide = f', "{strip.wide}"' if strip.scales.scale == "e4m3" else ""
            lines.append(f"scale = scales_of_{strip.scales.scale}(run[{self.code_words}]{wide})")
            which = divided(f"{portion} * i", strip.block) if self.per_run > 1 else "0"
            lines.append(f'return [scaled(pair, scale[{which}], "{strip.wide}") for pair in pairs]')
        else:
            lines.append("return pairs")
        order = "elements j and j + 4 of each eight" if turns else "neighbors"
        doc = f"{portion} elements of a run of {strip.operand.arg} as {strip.wide}, two a word: {order}."
        return Function(self.pairs, ("run", "i"), doc, fragment(*lines))
