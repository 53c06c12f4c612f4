"""Hadamard transforms in an epilogue: along the columns in a thread's registers, along the rows across its warp."""

from __future__ import annotations

from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueProgram


def transforms(program: EpilogueProgram) -> list[int]:
    """The transforms, in the order in which they are computed."""
    return [s.value for s in program.statements if program.kernel.values[s.value].op == "hadamard"]


def hadamard_setup(program: EpilogueProgram, helpers: set[str]) -> list[str]:
    """Lines of the kernel hook: the signs that threads keep."""
    lines: list[str] = []
    for value in transforms(program):
        leaf = _signs(program, value)
        name = _signs_name(program, value)
        if leaf is None or any(line.startswith(f"{name} = ") for line in lines):
            continue
        size, rows = _size(program, value), _rows(program, value)
        helpers |= {"global_address", "load_f32" if rows else "load_points"}
        if rows:
            lines.append(f"{name} = load_f32(global_address({leaf.param_name}, lane % {size}, 4), True)")
        else:
            lines.append(f"{name} = load_points(global_address({leaf.param_name}, 0, 4), {size})")
    return lines


def hadamard_call(program: EpilogueProgram, value: int, x: str, helpers: set[str]) -> str:
    """The transform of a list of 32 values."""
    size, signs = _size(program, value), _signs_name(program, value)
    if _rows(program, value):
        helpers.add("hadamard_of_rows")
        return f"hadamard_of_rows({x}, {size}, {signs}, lane)"
    helpers.add("hadamard_of_columns")
    return f"hadamard_of_columns({x}, {size}, {signs})"


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
