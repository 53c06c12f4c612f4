"""Which operands converter warps bring into a stage, how many warps there are, and how they share the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fp4cc.ir.kernel import Constraint, Expr, Kernel
from fp4cc.ir.lowered import Operand, Problem
from fp4cc.ir.lowered_converters import Conversion, Converters, Dequantized, Relaid
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import Sizes
from fp4cc.ir.sizes import scaled as scaled_size
from fp4cc.passes.feeds.scale_reading import Needs, Readers
from fp4cc.passes.feeds.steps import Steps, converted
from fp4cc.passes.problem.divides import divides
from fp4cc.passes.problem.placement import same_placement
from fp4cc.passes.resources.smem import row_atoms
from fp4num import LAYOUTS

#: Warps that only lay out scales: each holds those of a stage in registers, so this many stages are on their way.
RELAYING_WARPS = 4
#: Warps where operands are dequantized: two for each of the SM's four schedulers.
DEQUANTIZING_WARPS = 8
#: Words that a lane may hold between fetching and writing: 448 threads have 144 registers each.
MOST_WORDS = 80
CTA_ROWS = 128


def native_scales(operand: Operand, tile_n: int, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether scale atoms lie in memory as the tensor core reads them, so that TMA can bring them."""
    fmt = operand.format
    laid_out = fmt.stored[0] == 1 and same_placement(fmt.layout, LAYOUTS["blocked_128x4"])
    return laid_out and starts_in_place(operand, tile_n, facts, sizes)


def starts_in_place(operand: Operand, tile_n: int, facts: Sequence[Constraint], sizes: Sizes) -> bool:
    """Whether the tiles of an operand are known to start where a scale atom, or the second half of one, does.

    A B tile of 64 or 192 columns may start in the middle of an atom, by a column offset; one of 128 or 256 would then
    reach into an atom more than it loads. Halves that take turns do so in multiples of a tile.
    """
    if operand.half is not None and operand.half.group is not None:
        return True
    return divides(64 if operand.half and tile_n % 128 else 128, operand.first_row, facts, sizes)


def plan_conversions(
    kernel: Kernel, problem: Problem, steps: Sequence[Steps], sizes: Sizes, required: Sequence[Constraint]
) -> tuple[list[Steps], Needs]:
    """The mainloops with what converter warps bring of each, and what that asks of the kernel's parameters."""
    facts = (*kernel.constraints, *required)
    needs = Needs(kernel.args)
    planner = _Planner(Readers(kernel, sizes, problem, facts, needs), facts, sizes)
    return [replace(step, conversions=tuple(planner.of(step))) for step in steps], needs


def plan_converters(steps: Sequence[Steps], stages: int) -> Converters | None:
    """The warps for the conversions of all mainloops; None where there are none.

    As many teams as there are slots for them, so that many stages are on their way; what is left of the warps joins
    them. A team has several warps also where one could not hold its share of a stage in registers.
    """
    conversions = [conversion for step in steps for conversion in step.conversions]
    if not conversions:
        return None
    units = [conversion.units for conversion in conversions if isinstance(conversion, Dequantized)]
    members, most = 1, RELAYING_WARPS
    if units:
        most = DEQUANTIZING_WARPS
        allowed = [n for n in (1, 2, 4) if all(count % n == 0 for count in units)]
        words = max(sum(map(_words, step.conversions)) for step in steps)
        members = next((n for n in allowed if words <= n * MOST_WORDS), allowed[-1])
        while 2 * members in allowed and 2 * members * min(stages, most // members) <= most:
            members *= 2
    return Converters(min(stages, most // members), members)


def _words(conversion: Conversion) -> int:
    """Words that a lane holds of a stage, if its warp takes all of it."""
    if isinstance(conversion, Relaid):
        return 4 * conversion.row_atoms * conversion.atoms
    return conversion.units * (conversion.unit_words + (conversion.scales is not None))


class _Planner:
    def __init__(self, readers: Readers, facts: Sequence[Constraint], sizes: Sizes) -> None:
        self.readers = readers
        self.facts = facts
        self.sizes = sizes
        self.needs = readers.needs
        self.used: set[str] = set()

    def of(self, steps: Steps) -> list[Conversion]:
        """The conversions of a mainloop, A's first."""
        mma, first = steps.mmas[0], steps.products[0]
        found: list[Conversion] = []
        operands = [(first.a, mma.a, Part("A"))]
        operands += [(p.b, m.b, Part("B", i)) for i, (p, m) in enumerate(zip(steps.products, steps.mmas, strict=True))]
        for operand, element, part in operands:
            if mma.scale is None and converted(operand, element):
                rows = CTA_ROWS if operand.role == "A" else mma.n // mma.cta_group
                found.append(self._dequantized(operand, part, element, first.k, rows))
            elif mma.scale is not None and not native_scales(operand, mma.n, self.facts, self.sizes):
                runs = 1 if operand.role == "A" else row_atoms(mma.n)
                found.append(self._relaid(operand, part.of_scales, first.k, mma.atoms, runs))
        return found

    def _relaid(self, operand: Operand, part: Part, k: Expr, atoms: int, runs: int) -> Relaid:
        return Relaid(
            name=self._name(operand.arg),
            arg=operand.arg,
            part=part,
            scales=self.readers.scales(operand, k, 4 * atoms),
            rows=self.readers.rows(operand),
            atoms=atoms,
            row_atoms=runs,
        )

    def _dequantized(self, operand: Operand, part: Part, to: str, k: Expr, rows: int) -> Dequantized:
        arg, scaled = operand.arg, operand.scaled and operand.format.scale is not None
        block = operand.format.stored[1] if scaled else 0
        found = Dequantized(
            name=self._name(arg),
            arg=arg,
            part=part,
            element=operand.element,
            bits=operand.bits,
            to="f16" if to == "f16" else "bf16",
            stage_rows=rows,
            block=block if isinstance(block, int) else 0,
            scales=None,
            codes=self.needs.pointer(f"{arg}_codes_ptr", operand.codes, f"{operand.element} codes of {arg}"),
            rows=self.readers.rows(operand),
            rows_of=self.readers.rows_of(operand),
            all_rows=self._all_rows(operand) if operand.batched else None,
            pitch=self.needs.size(f"{arg}_pitch", scaled_size(k, operand.bits, 8), f"bytes of a row of {arg}"),
            depth=self.needs.size("k_size", k, "elements along K"),
        )
        return replace(found, scales=self.readers.scales(operand, k, found.unit_scales)) if scaled else found

    def _all_rows(self, operand: Operand) -> str:
        rows = self.readers.all_rows(operand)
        return self.needs.size(f"{operand.arg}_all_rows", rows, f"rows of {operand.arg} in all")

    def _name(self, arg: str) -> str:
        name, number = arg, 1
        while name in self.used:
            number += 1
            name = f"{arg}{number}"
        self.used.add(name)
        return name
