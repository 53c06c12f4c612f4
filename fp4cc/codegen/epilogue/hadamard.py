"""Hadamard transforms in an epilogue: along the columns in a thread's registers, along the rows across its warp.

One of more than 32 points goes through shared memory (`SpreadPlan`): a walk of its own transforms runs of 32 and leaves
them there, and the walks after it join the runs as they read.
"""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Transform
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.meeting import meet
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.fragments import Fragment, fragment
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueProgram, SpreadPlan

_RUN = 32


class Hadamard(Transform):
    """The transforms of an epilogue."""

    name = "hadamard"
    takes = "the Hadamard transform takes"
    made = "transformed"

    def setup(self) -> Fragment:
        return fragment(*_setup(self.program))

    def values(self) -> list[int]:
        return transforms(self.program)

    def operand(self, value: int) -> int:
        return self.kernel.values[value].operands[0]

    def call(self, value: int, x: str) -> str:
        plan = spread(self.program, value)
        if plan is None:
            return hadamard_call(self.program, value, x)
        self.epilogue.points[value] = x
        return spread_read(self.program, plan)

    def walks(self) -> list[Walk]:
        found: list[Walk] = []
        points, steps = self.epilogue.points, self.epilogue.steps
        for depth in sorted({plan.depth for plan in self.program.spread}):
            plans = [plan for plan in self.program.spread if plan.depth == depth]
            lines = [line for plan in plans for line in spread_lines(self.program, plan, points[plan.value])]
            crossing = any(_rows(self.program, plan.value) for plan in plans)  # other warps read what this one wrote
            end = [f"{meet(self.lowered)}  # all rows are there"] if crossing else []
            subtile = fragment(needed(steps, [points[plan.value] for plan in plans]), *lines)
            found.append(Walk("transform runs of 32", subtile, fragment(*end)))
        return found

    def panel_end(self) -> Fragment:
        """Other warps have read the rows that the next panel overwrites."""
        if not any(_rows(self.program, plan.value) for plan in self.program.spread):
            return ()
        return fragment(f"{meet(self.lowered)}  # the transformed rows have been read")


def transforms(program: EpilogueProgram) -> list[int]:
    """The transforms, in the order in which they are computed."""
    return [s.value for s in program.statements if program.kernel.values[s.value].op == "hadamard"]


def spread(program: EpilogueProgram, value: int) -> SpreadPlan | None:
    """The plan of a transform that goes through shared memory."""
    return next((plan for plan in program.spread if plan.value == value), None)


def _setup(program: EpilogueProgram) -> list[str]:
    """Lines of the kernel hook: the signs that threads keep, and where transforms go through shared memory."""
    lines: list[str] = []
    kept: set[str] = set()
    for value in transforms(program):
        plan = spread(program, value)
        if plan is not None:
            lines.append(f"{_points(program, plan)} = shared_address({plan.buffer})")
        leaf, rows = _signs(program, value), _rows(program, value)
        name = _signs_name(program, value)
        if leaf is None or (plan is not None and not rows) or name in kept:
            continue
        kept.add(name)
        size = _size(program, value)
        if rows:
            thread = f"lane % {size}" if size <= _RUN else f"thread % {size}"
            lines.append(f"{name} = load_f32(global_address({leaf.param_name}, {thread}, 4), True)")
        else:
            lines.append(f"{name} = load_points(global_address({leaf.param_name}, 0, 4), {size})")
    return lines


def hadamard_call(program: EpilogueProgram, value: int, x: str) -> str:
    """The transform of a list of 32 values."""
    size, signs = _size(program, value), _signs_name(program, value)
    if _rows(program, value):
        return f"hadamard_of_rows({x}, {size}, {signs}, lane)"
    return f"hadamard_of_columns({x}, {size}, {signs})"


def spread_lines(program: EpilogueProgram, plan: SpreadPlan, x: str) -> list[str]:
    """Lines of the walk that leaves a sub-tile's runs in shared memory."""
    row = f"{_points(program, plan)} + {plan.row_bytes} * thread + 4 * (column - panel0)"
    if _rows(program, plan.value):
        run = f"butterflies_of_rows({x}, {_RUN}, {_signs_name(program, plan.value)}, lane)"
        return [f"{_points(program, plan)}_run = {run}", f"exchange_row({row}, {_points(program, plan)}_run)"]
    leaf, signs, lines = _signs(program, plan.value), "None", list[str]()
    if leaf is not None:
        signs, place = f"{_points(program, plan)}_signs", f"column & {_size(program, plan.value) - 1}"
        lines.append(f"{signs} = load_points(global_address({leaf.param_name}, {place}, 4), {_RUN})")
    lines.append(f"{_points(program, plan)}_run = butterflies_of_columns({x}, {_RUN}, {signs})")
    return [*lines, f"exchange_row({row}, {_points(program, plan)}_run)"]


def spread_read(program: EpilogueProgram, plan: SpreadPlan) -> str:
    """The transformed values of a sub-tile."""
    count, pitch = _size(program, plan.value) // _RUN, plan.row_bytes
    if _rows(program, plan.value):
        row = f"{_points(program, plan)} + {pitch} * (32 * (warp & {-count}) + thread % 32)"
        return f"hadamard_of_runs({row} + 4 * (column - panel0), {_RUN * pitch}, warp, {count})"
    row = f"{_points(program, plan)} + {pitch} * thread"
    first = f"(column - panel0 & {-_RUN * count})"
    return f"hadamard_of_runs({row} + 4 * {first}, {4 * _RUN}, column >> 5, {count})"


def _points(program: EpilogueProgram, plan: SpreadPlan) -> str:
    """The address of the buffer of one that goes through shared memory."""
    return f"points{program.spread.index(plan) + 1}"


def _signs_name(program: EpilogueProgram, value: int) -> str:
    leaf = _signs(program, value)
    if leaf is None:
        return "None"
    return f"{leaf.name}_of_{'row' if _rows(program, value) else 'columns'}"


def _signs(program: EpilogueProgram, value: int) -> EpilogueInput | None:
    operands = program.kernel.values[value].operands
    if len(operands) < 2:
        return None
    return next(leaf for leaf in program.inputs if leaf.value == operands[1])


def _size(program: EpilogueProgram, value: int) -> int:
    size = program.kernel.values[value].attrs["size"]
    if not isinstance(size, int):
        raise TypeError(f"a Hadamard transform of {size!r} points")
    return size


def _rows(program: EpilogueProgram, value: int) -> bool:
    return program.kernel.values[value].attrs["axis"] == program.problem.m_axis
