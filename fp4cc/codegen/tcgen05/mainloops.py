"""The MMA warp's mainloops as text: the instructions that multiply a stage."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.clearing import bytes_of_step, clearing
from fp4cc.codegen.feeds.spec import CallText
from fp4cc.codegen.mainloops import numbered, products_in_words
from fp4cc.codegen.placing import steps_of
from fp4cc.codegen.splitting import steps_text
from fp4cc.codegen.tcgen05.loads import first_row
from fp4cc.ir.lowered import LoweredKernel, Mma, Tcgen05
from fp4cc.ir.part import Part


@dataclass(frozen=True, slots=True)
class ProductText:
    """One instruction of a step. `keeps`: whether it adds to the accumulator, as text; scales by their names.

    `b_step`: bytes from what an instruction reads of B to what the next one does.
    """

    accumulator: str
    b: str
    sfb: str
    sfb_column: str
    scale_b: str
    instruction: str
    keeps: str
    b_step: int


@dataclass(frozen=True, slots=True)
class ScaleColumn:
    """The tensor memory column of a B's first scales: the name of a variable, and its value as text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class MmaLoop:
    """The MMA warp's part of a mainloop. `sfa_atoms` and `sfb_atoms` are the scale atoms of a stage, as text.

    `a_step`: as `b_step`. `clearing`: what puts zeros in the place of rows that another group contracts.
    """

    what: str | None
    k_tiles: str
    mma: Mma
    atom: str
    sfa_atoms: str
    sfb_atoms: str
    products: list[ProductText]
    a_step: int
    clearing: list[CallText]


def mma_loops(lowered: LoweredKernel) -> list[MmaLoop]:
    """The MMA warp's loops along K, in order."""
    loops: list[MmaLoop] = []
    begun: set[int] = set()  # accumulators that hold a product already
    number = 0
    engine = lowered.engine_as(Tcgen05)
    most = max(mmas[0].atoms for mmas in engine.mmas)
    columns = half_atom_columns(lowered, "n0")
    # A step's sums are by themselves where they are promoted.
    start = "0" if lowered.split is None else "k_first"
    first = f"(k_tile != {start}) | (i != 0)" if lowered.promotion is None else "i != 0"
    for i, mainloop in enumerate(lowered.mainloops):
        products: list[ProductText] = []
        for place, product in enumerate(mainloop.products):
            sfb = f"sfb{numbered(place)}"
            products.append(
                ProductText(
                    accumulator=f"acc{numbered(product.slot)}",
                    b=f"b{numbered(place)}",
                    sfb=sfb,
                    sfb_column=columns[i, place].name if (i, place) in columns else f"{sfb.upper()}_COLUMN",
                    scale_b=f"scale_b{numbered(place)}",
                    instruction=f"INSTRUCTION{numbered(number)}",
                    keeps="True" if product.slot in begun else first,
                    b_step=bytes_of_step(product.b),
                )
            )
            begun.add(product.slot)
            number += 1
        mma = engine.mmas[i][0]
        loops.append(
            MmaLoop(
                what=products_in_words(lowered, mainloop),
                k_tiles=steps_text(lowered, steps_of(lowered, i)),
                mma=mma,
                atom="atom" if mma.instructions_per_atom > 1 else "i",
                sfa_atoms="SFA_BYTES // 512" if mma.atoms == most else str(mma.atoms),
                sfb_atoms="SFB_BYTES // 512" if mma.atoms == most else str(mma.atoms * -(-lowered.tile.n // 128)),
                products=products,
                a_step=bytes_of_step(mainloop.products[0].a),
                clearing=clearing(lowered, mainloop, "lane", 32),
            )
        )
    return loops


def half_atom_columns(lowered: LoweredKernel, n0: str) -> dict[tuple[int, int], ScaleColumn]:
    """By mainloop and place in it, where B's scales begin if tiles may start in the middle of a scale atom; else none.

    `n0` is the tile's first column.
    """
    found: dict[tuple[int, int], ScaleColumn] = {}
    for i, mainloop in enumerate(lowered.mainloops):
        for place, product in enumerate(mainloop.products):
            # Narrow tiles have scales laid out from their first row, or are alone along N.
            if not lowered.engine_as(Tcgen05).mmas[i][0].scale or lowered.tile.n % 128 != 64:
                continue
            sfb = f"sfb{numbered(place)}"
            # Atoms that are laid out anew start where the operand does.
            conversion = mainloop.conversion(Part("B", place, scales=True))
            anew = conversion is not None and conversion.whole_atoms
            row = n0 if anew else first_row(lowered, product.b, n0)
            row = row if row == n0 else f"({row})"
            text, name = f"{sfb.upper()}_COLUMN + {row} // 64 % 2 * 2", f"{sfb}_column"
            if any(other.name == name and other.text != text for other in found.values()):
                name += f"_of_{numbered(i)}"
            found[i, place] = ScaleColumn(name, text)
    return found
