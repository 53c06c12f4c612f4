"""Which operands converter warps bring into a stage, how many warps there are, and how they share the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem
from fp4cc.ir.lowered_converters import Conversion, Converters, Relaid
from fp4cc.passes.divides import divides
from fp4cc.passes.memory import b_buffer, row_atoms
from fp4cc.passes.pipeline import Steps
from fp4cc.passes.scale_reading import Needs, Readers, same_placement
from fp4cc.passes.sizes import Sizes
from fp4num import LAYOUTS

#: Warps that only lay out scales: each holds those of a stage in registers, so this many stages are on their way.
RELAYING_WARPS = 4


def native_scales(operand: Operand, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether scale atoms lie in memory as the tensor core reads them, so that TMA can bring them."""
    fmt = operand.format
    whole_atoms = divides(128, operand.first_row, facts, sizes)
    return fmt.stored[0] == 1 and whole_atoms and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])


def plan_conversions(
    kernel: Kernel, problem: Problem, steps: Sequence[Steps], sizes: Sizes, required: Sequence[Constraint]
) -> tuple[list[Steps], Needs]:
    """The mainloops with what converter warps bring of each, and what that asks of the kernel's parameters."""
    facts = (*kernel.constraints, *required)
    needs = Needs()
    planner = _Planner(Readers(kernel, sizes, problem.batch, facts, needs), facts, sizes)
    return [replace(step, conversions=tuple(planner.of(step))) for step in steps], needs


def plan_converters(steps: Sequence[Steps], stages: int, needs: Needs) -> Converters | None:
    """The warps for the conversions of all mainloops; None where there are none."""
    if not any(step.conversions for step in steps):
        return None
    pointers = tuple((name, source, what) for name, (source, what) in needs.pointers.items())
    sizes = tuple((name, value, what) for name, (value, what) in needs.sizes.items())
    return Converters(min(RELAYING_WARPS, stages), 1, pointers, sizes)


class _Planner:
    def __init__(self, readers: Readers, facts: Sequence[Constraint], sizes: Sizes) -> None:
        self.readers = readers
        self.facts = facts
        self.sizes = sizes
        self.used: set[str] = set()

    def of(self, steps: Steps) -> list[Conversion]:
        """The conversions of a mainloop, A's first."""
        found: list[Conversion] = []
        mma = steps.mmas[0]
        if mma.scale is None:
            return found
        first = steps.products[0]
        operands = [(first.a, "sfa_smem"), *((p.b, b_buffer(i, scales=True)) for i, p in enumerate(steps.products))]
        for operand, buffer in operands:
            if not native_scales(operand, self.facts, self.sizes):
                runs = 1 if operand.role == "A" else row_atoms(mma.n)
                found.append(self._relaid(operand, buffer, first.k, mma.atoms, runs))
        return found

    def _relaid(self, operand: Operand, buffer: str, k: Expr, atoms: int, runs: int) -> Relaid:
        arg = operand.arg
        return Relaid(
            name=self._name(arg),
            arg=arg,
            role=operand.role,
            buffer=buffer,
            scales=self.readers.scales(operand, k, 4 * atoms),
            rows=self.readers.needs.size(f"{arg}_rows", operand.rows, f"rows of {arg}"),
            atoms=atoms,
            row_atoms=runs,
        )

    def _name(self, arg: str) -> str:
        name, number = arg, 1
        while name in self.used:
            number += 1
            name = f"{arg}{number}"
        self.used.add(name)
        return name
