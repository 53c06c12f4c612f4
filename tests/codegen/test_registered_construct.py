"""An epilogue construct that no source file knows: the largest of a column, used by the elements of the same kernel.

Each warp leaves the largest of its rows in shared memory in a walk of its own; once all four have, elements use the
largest of these. Nothing of fp4cc compiles that: a reduction is otherwise known only after all tiles are done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.epilogue import construct as texts
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.meeting import meet
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.epilogue.text import CONSTRUCTS as TEXTS
from fp4cc.codegen.epilogue.text import also
from fp4cc.codegen.fragments import Block, Fragment, Function, fragment
from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Value
from fp4cc.ir.lowered import EPILOGUE_BARRIER, NamedBarrier, SmemBuffer
from fp4cc.ir.lowered_epilogue import CTA_ROWS, EPILOGUE_WARPS, EpilogueProgram, Scope
from fp4cc.ir.verify_lowered import verify_lowered
from fp4cc.passes import lower
from fp4cc.passes.epilogue import construct as plans
from fp4cc.passes.epilogue.memory import transposition
from fp4cc.passes.epilogue.registry import CONSTRUCTS
from fp4cc.passes.problem.unzip import Frame
from fp4rt import random_inputs

from .pipeline import build, parse, run

SPEC = """
kernel k(M = 100, N, K) {
    in x : f16[M, K]
    in w : f16[N, K]
    in bias : f32[N]
    out y : f32[M, N]
    out top : f32[N]
    s = x @ w.T + bias
    highest = max(s, over = M)
    y = (s - highest) * 0.5 + min(highest, 3)
    top = highest
}
"""
#: Columns of a tile that are walked together.
PANEL = 64
BARRIER = NamedBarrier("HIGHEST_BARRIER", 0, "epilogue", "that of the columns' largest")


@dataclass(frozen=True, slots=True)
class HighestPlan:
    """What both halves know: the reduction, and the buffer with a float for each column of a panel, of each warp."""

    value: int
    buffer: str
    clips: bool = True
    takes: tuple[int, ...] = ()

    @property
    def buffers(self) -> tuple[str, ...]:
        return (self.buffer,)


class Highest(plans.Construct):
    """The plan's half."""

    name = "highest"

    def makes(self, index: int, frame: Frame) -> bool:
        value = frame.kernel.values[index]
        largest = (
            value.op == "reduce" and value.attrs["kind"] == "max" and value.attrs["over"] == (frame.problem.m_axis,)
        )
        return largest and any(index in user.operands for user in frame.kernel.values)

    def refusals(self, index: int, frame: Frame) -> Iterable[Diagnostic]:
        rows, place = frame.problem.m, frame.kernel.values[index].span
        if not isinstance(rows, int) or rows > CTA_ROWS:
            yield error("FP4020", f"the largest of over {CTA_ROWS} rows, or of a size that is not known", place, "here")

    def panel(self, frame: Frame) -> int:
        return PANEL if any(self.makes(index, frame) for index in range(len(frame.kernel.values))) else 0

    def scope(self, value: Value) -> Scope | None:
        return "element"

    def add(self, program: EpilogueProgram, planning: plans.Planning) -> EpilogueProgram:
        mine = [index for index in planning.live if self.makes(index, planning.frame)]
        parts = (HighestPlan(index, f"highest{number}_smem") for number, index in enumerate(mine, 1))
        return replace(program, parts=(*program.parts, *parts))

    def buffers(self, program: EpilogueProgram) -> Sequence[SmemBuffer]:
        size, parts = 4 * EPILOGUE_WARPS * program.panel, program.parts_of(HighestPlan)
        found = [SmemBuffer(part.buffer, 0, size, 1, 16, "the largest of each column, by warp") for part in parts]
        return [transposition(), *found] if found else []

    def barriers(self, program: EpilogueProgram) -> Sequence[NamedBarrier]:
        return [EPILOGUE_BARRIER, BARRIER] if program.parts_of(HighestPlan) else []


class HighestText(texts.Transform):
    """The text's half."""

    name = "highest"
    takes = "the largest of each column is taken of"
    made = "highest"

    def setup(self) -> Fragment:
        return fragment(*(f"{_place(part)} = shared_address({part.buffer})" for part in self._parts()))

    def values(self) -> list[int]:
        return [part.value for part in self._parts()]

    def operand(self, value: int) -> int:
        return self.kernel.values[value].operands[0]

    def call(self, value: int, x: str) -> str:
        self.epilogue.points[value] = x
        part = next(part for part in self._parts() if part.value == value)
        return f"largest_of_columns({_place(part)} + 4 * (column - panel0), {4 * self.program.panel})"

    def functions(self) -> list[Function]:
        rows = "rows = [shared_load_32_f32(place + pitch * warp) for warp in range(4)]"
        joined = "return [maximum(maximum(a, b), maximum(c, d)) for a, b, c, d in zip(*rows)]"
        doc = "Of 32 columns the largest of all warps; `pitch`: bytes from one warp's to the next one's."
        one = Function("largest_of_columns", ("place", "pitch"), doc, fragment(rows, joined))
        return [one] if self._parts() else []

    def walks(self) -> list[Walk]:
        if not self._parts():
            return []
        lines: list[str] = []
        taken = [self.epilogue.points[part.value] for part in self._parts()]
        for part, x in zip(self._parts(), taken, strict=True):
            name, own = _place(part), f"{self.program.panel} * warp + column - panel0 + lane"
            lines.append(f"{name}_column = transpose_in_warp(slab_to_transpose, lane, {x})")
            lines.append(f"{name}_part = fold(maximum, from_bits(-1), {name}_column, m_size - m0 - 32 * warp)")
            lines.append(f"shared_store_f32({name} + 4 * ({own}), {name}_part)")
        subtile = fragment(needed(self.epilogue.steps, taken), *lines)
        end = fragment(f"{meet(self.lowered, BARRIER.name)}  # all warps have left theirs")
        return [Walk("find the largest of each column", subtile, end)]

    def panel_end(self) -> Fragment:
        return fragment(f"{meet(self.lowered)}  # the largest have been read") if self._parts() else ()

    def _parts(self) -> list[HighestPlan]:
        return self.program.parts_of(HighestPlan)


def _place(part: HighestPlan) -> str:
    return part.buffer.removesuffix("_smem")


@pytest.fixture
def registered() -> Iterator[None]:
    with CONSTRUCTS.also(Highest()), also(HighestText):
        yield


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_a_product_less_the_largest_of_each_column_is_the_references(target: str) -> None:
    """Rows and columns past the end, several panels, several tiles; and the same reduction as an output of its own."""
    built = build(SPEC, target)
    assert built.lowered.epilogue.constructs[0] == "highest"
    dims = {"N": 296, "K": 48}
    inputs = random_inputs(built.artifact.manifest, dims, 0)
    for compared in run(built, dims, **inputs):
        assert compared.equal, compared
    found = built.artifact.load_kernel("emulator")(**inputs)
    x, w, bias = (inputs[name].astype(np.float32) for name in ("x", "w", "bias"))
    s = x @ w.T + bias
    highest = s.max(axis=0)
    assert np.array_equal(found["top"], highest)
    assert np.array_equal(found["y"], (s - highest) * np.float32(0.5) + np.minimum(highest, np.float32(3)))


#: Without a product, on either target; two of it beside an input; batches; promoted sums.
ELSEWHERE: dict[str, tuple[str, str, str, dict[str, int]]] = {
    "none": ("sm_100a", "N", "in x : bf16[M, N]; out y : f32[M, N]; y = x - max(x * 2, over = M)", {"N": 296}),
    "none_90a": ("sm_90a", "N", "in x : bf16[M, N]; out y : f32[M, N]; y = x - max(x * 2, over = M)", {"N": 296}),
    "two": (
        "sm_100a", "N, K",
        "in a : e4m3[M, K]; in b : e4m3[N, K]; in r : bf16[M, N]; out y : bf16[M, N]; s = a @ b.T; "
        "y = s - max(s, over = M) + max(r, over = M)", {"N": 72, "K": 48},
    ),
    "batched": (
        "sm_90a", "L, N, K",
        "in a : e4m3[L, M, K]; in b : e4m3[L, N, K]; out y : bf16[L, M, N]; s = a @ b.T; y = s - max(s, over = M)",
        {"L": 2, "N": 72, "K": 48},
    ),
    "promoted": (
        "sm_100a", "N, K",
        "in a : ds_act[M, K]; in b : ds_weight[N, K]; out y : bf16[M, N]; s = a @ b.T; y = s - max(s, over = M)",
        {"N": 256, "K": 256},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ELSEWHERE)
def test_it_knows_no_engine(name: str) -> None:
    target, dims, body, sizes = ELSEWHERE[name]
    for compared in run(build(f"kernel k(M = 100, {dims}) {{ {body} }}", target), sizes):
        assert compared.equal, compared


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_its_plan_is_verified_like_any_other(target: str) -> None:
    """The buffer and both barriers are in the kernel; a kernel without one of them is refused."""
    plan = lower(parse(SPEC), target)
    assert plan.smem.buffer("highest1_smem").total == 4 * 4 * PANEL
    assert {barrier.name: barrier.number for barrier in plan.named_barriers if barrier.number in (1, 15)} == {
        "EPILOGUE_BARRIER": 1,
        "HIGHEST_BARRIER": 15,
    }
    verify_lowered(plan)
    others = tuple(buffer for buffer in plan.smem.buffers if buffer.name != "highest1_smem")
    with pytest.raises(DiagnosticError, match="HighestPlan uses highest1_smem, and there is no such buffer"):
        verify_lowered(replace(plan, smem=replace(plan.smem, buffers=others)))
    over = tuple(replace(b, offset=0) if b.name == "highest1_smem" else b for b in plan.smem.buffers)
    with pytest.raises(DiagnosticError, match="highest1_smem starts at byte 0 of shared memory, and what is before"):
        verify_lowered(replace(plan, smem=replace(plan.smem, buffers=over)))
    met = tuple(barrier for barrier in plan.named_barriers if barrier.name != "HIGHEST_BARRIER")
    with pytest.raises(DiagnosticError, match="warps meet at HIGHEST_BARRIER, and there is no such barrier"):
        verify_lowered(replace(plan, named_barriers=met))


@dataclass(frozen=True, slots=True)
class NotedPlan:
    """Values that a construct's text takes by their names."""

    takes: tuple[int, ...]
    clips: bool = False
    buffers: tuple[str, ...] = ()


class Noted(plans.Construct):
    """Takes what exponential functions are of."""

    name = "noted"

    def add(self, program: EpilogueProgram, planning: plans.Planning) -> EpilogueProgram:
        values = planning.kernel.values
        taken = tuple(values[i].operands[0] for i in planning.live if values[i].op == "exp")
        return replace(program, parts=(*program.parts, NotedPlan(taken)))


class NotedText(texts.Construct):
    """Looks them up once they must be there."""

    name = "noted"

    def per_subtile(self) -> Fragment:
        takes = [value for part in self.program.parts_of(NotedPlan) for value in part.takes]
        found = [self.epilogue.argument(value).one for value in takes]
        return fragment(Block("for j in cutlass.range_constexpr(32):", fragment(f"noted = [{', '.join(found)}]")))


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_a_construct_has_the_values_that_it_takes_whatever_their_scope(target: str) -> None:
    """Of the kernel, of a row and of a column: no element uses them but through others, so that without it they are
    computed inside these and have no names.
    """
    spec = (
        "kernel k(M, N, K) { in x : f16[M, K]; in w : f16[N, K]; param p : f32; in r : f32[M]; in c : f32[N]\n"
        "out y : f32[M, N]; of_kernel = p * 3; of_row = r * 3; of_column = c * 3\n"
        "y = x @ w.T * exp(of_kernel) * exp(of_row) * exp(of_column) }"
    )
    without = lower(parse(spec), target)
    assert len(without.epilogue.staged) == 1
    with CONSTRUCTS.also(Noted()), also(NotedText):
        plan = lower(parse(spec), target)
        text = emit(plan)
    assert len(plan.epilogue.staged) == 2
    assert re.search(r"of_column_columns = shared_load_32_f32\(.*\n(.*\n)* +noted", text)
    assert "noted = [of_kernel, of_row, of_column_columns[j]]" in text


def test_without_it_a_reduction_is_not_used_where_it_is_computed() -> None:
    with pytest.raises(DiagnosticError, match="a reduction is used in the kernel that computes it"):
        lower(parse(SPEC), "sm_100a")


@pytest.mark.usefixtures("registered")
def test_it_refuses_what_it_cannot_do() -> None:
    with pytest.raises(DiagnosticError, match="the largest of over 128 rows"):
        lower(parse(SPEC.replace("M = 100", "M = 130")), "sm_100a")


def test_others_are_left_as_they_are() -> None:
    """A kernel without anything of it is planned and printed as if it were not there: stored, it is another's."""
    spec = parse(SPEC.replace("y = (s - highest) * 0.5 + min(highest, 3)", "y = s"))
    without = emit(lower(spec, "sm_100a"))
    with CONSTRUCTS.also(Highest()), also(HighestText):
        plan = lower(spec, "sm_100a")
        assert "highest" not in plan.epilogue.constructs
        assert emit(plan) == without


def test_both_halves_have_the_same_names() -> None:
    names = [construct.name for construct in CONSTRUCTS.known]
    assert sorted(names) == sorted(text.name for text in TEXTS)
    assert len(set(names)) == len(names)


def test_a_plan_without_its_text_is_not_printed() -> None:
    """Or what the plan has claimed would silently not be there."""
    with CONSTRUCTS.also(Highest()):
        plan = lower(parse(SPEC), "sm_100a")
    with pytest.raises(LookupError, match="no text of the constructs highest"):
        emit(plan)


@pytest.mark.usefixtures("registered")
def test_two_constructs_have_two_names() -> None:
    with pytest.raises(ValueError, match="there is a construct highest"), CONSTRUCTS.also(Highest()):
        pass
    with pytest.raises(ValueError, match="there is text of the construct highest"), also(HighestText):
        pass
