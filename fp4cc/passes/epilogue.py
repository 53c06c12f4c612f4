"""Refinements of the epilogue's plan: which column values are staged, and which inputs need not be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import EpilogueInput, EpilogueProgram, Scope


def refine(kernel: Kernel, program: EpilogueProgram) -> EpilogueProgram:
    """The program with `staged`, the inputs' `guards`, and conditions on columns moved to the elements that use them."""
    scopes: dict[int, Scope] = {leaf.value: _leaf_scope(leaf) for leaf in program.inputs}
    scopes.update((statement.value, statement.scope) for statement in program.statements)
    # Staging holds f32, so a condition on columns is computed where it is used.
    for statement in reversed(program.statements):
        for operand in kernel.values[statement.value].operands:
            is_condition = kernel.values[operand].dtype == "bool" and scopes.get(operand) == "column"
            if scopes[statement.value] == "element" and is_condition:
                scopes[operand] = "element"
    return replace(
        program,
        inputs=tuple(replace(leaf, guards=_guards(kernel, program, leaf)) for leaf in program.inputs),
        statements=tuple(replace(s, scope=scopes[s.value]) for s in program.statements),
        staged=_staged(kernel, program, scopes),
    )


def _leaf_scope(leaf: EpilogueInput) -> Scope:
    if leaf.kind == "tile":
        return "element"
    if leaf.kind == "batch":
        return "tile"
    return leaf.kind if leaf.kind in ("row", "column") else "kernel"


def _staged(kernel: Kernel, program: EpilogueProgram, scopes: dict[int, Scope]) -> tuple[int, ...]:
    """The column values that elements or outputs use."""
    used = {o for i, scope in scopes.items() if scope == "element" for o in kernel.values[i].operands}
    used |= {output.value for output in program.outputs}
    return tuple(sorted(i for i in used if scopes.get(i) == "column"))


def _guards(kernel: Kernel, program: EpilogueProgram, leaf: EpilogueInput) -> tuple[int, ...]:
    """The values without axes that an inout's old value is multiplied by, if it is used in no other way."""
    if leaf.kind != "tile" or kernel.arg(leaf.name).direction != "inout":
        return ()
    aliases = {leaf.value}
    factors: list[int] = []
    for statement in program.statements:
        value = kernel.values[statement.value]
        if not aliases.intersection(value.operands):
            continue
        if value.op == "cast" and value.dtype == "f32":
            aliases.add(statement.value)
            continue
        others = [operand for operand in value.operands if operand not in aliases]
        if value.op != "mul" or len(others) != 1 or not _may_guard(kernel, others[0]):
            return ()
        factors.extend(others)
    if _any_stored(program, aliases):
        return ()
    return tuple(dict.fromkeys(factors))


def _may_guard(kernel: Kernel, index: int) -> bool:
    return not kernel.values[index].axes and kernel.values[index].op != "const"


def _any_stored(program: EpilogueProgram, values: Collection[int]) -> bool:
    return any(output.value in values for output in program.outputs)
