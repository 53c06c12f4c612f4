"""K shared by CTAs on sm_100a: sums meet in tensor memory, and every epilogue runs on those of all of K.

`pytest -m slow` tries a sample of cells that has every pair of values of two of its choices; FP4CC_SPLIT_SEED draws
another one. Outputs equal the reference's bit for bit, with copies, CTAs and warps in a random order.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations
from random import Random
from typing import Any

import pytest

from .mutants import Find, Mutation, argument, at, call, role, to, without
from .test_mutations import assert_caught
from .test_split_k import ARRIVALS, bits
from .test_swap import EPILOGUES, FORMATS, OPERANDS

Check = Callable[..., None]
Run = Callable[..., Any]

#: FP8 with f32 scales along K, whose sums are in registers: tile, cluster and operands are given.
PROMOTED = "promoted"
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "parts": ("1", "2", "3", "4", "8", "auto"),
    "operands": (*(name for name in OPERANDS if name != "row scales"), PROMOTED),
    "epilogue": tuple(name for name in EPILOGUES if name != "low rank"),
    "swap": ("no", "yes", "auto"),
    "tile_m": (128, 256),
    "tile_n": (32, 64, 96, 128, 192, 256),
    "cluster": ("1 x 1", "2 x 1", "1 x 2", "2 x 2", "4 x 1"),
    "rows": (1, 2, 7, 8, 16, 33, 64, 128, 200),
    "steps": (1, 2, 3, 5, 9),
    "rest": (0, 1, 2),
    "sms": (1, 3, 8, 148),
}
#: Those that say what a kernel is.
KERNEL = ("parts", "operands", "epilogue", "swap", "cluster")
CELLS = 180
SEED = int(os.environ.get("FP4CC_SPLIT_SEED", "7"))

Cell = dict[str, Any]


def legal(cell: Cell) -> bool:
    """Whether the target takes a cell; the reasons are the compiler's own, and have tests of their own."""
    epilogue = cell["epilogue"]
    if cell["operands"] == PROMOTED:
        given = {"tile_m": 128, "tile_n": 128, "cluster": "1 x 1", "swap": "no"}
        return "gated" not in epilogue and all(cell[name] == value for name, value in given.items())
    if cell["tile_m"] == 256 and cell["cluster"].startswith("1"):
        return False
    # Swapped, two weights are two left operands.
    return "gated" not in epilogue or (cell["tile_n"] <= 128 and not (cell["swap"] == "yes" and cell["parts"] != "1"))


def pairs(cell: Cell) -> set[tuple[tuple[str, Any], ...]]:
    """The choices of a cell two by two."""
    return set(combinations(cell.items(), 2))


@cache
def cells() -> list[Cell]:
    """Legal cells, of some drawn ones always the one with most new pairs; first of all of the choices in `KERNEL`."""
    draw, found = Random(SEED), list[Cell]()
    seen: set[tuple[tuple[str, Any], ...]] = set()

    def drawn() -> Cell:
        while True:
            cell = {name: draw.choice(values) for name, values in CHOICES.items()}
            if legal(cell):
                return cell

    def new(cell: Cell) -> int:
        return sum(5 if pair[0][0] in KERNEL and pair[1][0] in KERNEL else 1 for pair in pairs(cell) - seen)

    for _ in range(CELLS):
        best = max((drawn() for _ in range(60)), key=new)
        seen |= pairs(best)
        found.append(best)
    return found


def spec(cell: Cell, condition: str = "") -> str:
    """A kernel with the cell's schedule."""
    more, outs, statements, _ = EPILOGUES[cell["epilogue"]]
    a, b, depth = "ds_act", "ds_weight", 128
    if cell["operands"] != PROMOTED:
        a, b, depth, _ = OPERANDS[cell["operands"]]
    args = f"in x : {a}[M, K]; in w : {b}[N, K]; {more.format(b=b)} {outs}"
    fields = f"tile {cell['tile_m']} x {cell['tile_n']} x {depth}; split_k {cell['parts']}"
    if cell["operands"] != PROMOTED:
        fields += f"; swap_ab {cell['swap']}; cluster {cell['cluster']}"
    return (
        f"{FORMATS}kernel k(M, N, K) {{ {args}; p = x @ w.T; {statements} }}\n"
        f"schedule k on sm_100a{condition} {{ {fields} }}\n"
    )


def sizes(cell: Cell) -> dict[str, int]:
    """Tiles to spare along N, the last one not full, and K with a residue."""
    draw = Random(repr(cell))
    whole = EPILOGUES[cell["epilogue"]][3]
    _, _, depth, step = OPERANDS.get(cell["operands"], ("", "", 128, 128))
    k = depth * cell["steps"] - step * min(cell["rest"], depth // step - 1)
    return {"M": -(-cell["rows"] // whole) * whole, "N": 32 * draw.randrange(1, 10), "K": k}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(CELLS))
def test_a_cell(check: Check, number: int) -> None:
    cell = cells()[number]
    how: dict[str, Any] = {"mode": "delayed", "seed": number} if number % 3 else {"order": "strict", "seed": number}
    check(spec(cell), sms=cell["sms"], **sizes(cell), **how)


@pytest.mark.slow
def test_the_sample_has_nearly_every_pair() -> None:
    """Of the choices that say what a kernel is: each value with each other that is legal beside it."""
    for one, other in combinations(KERNEL, 2):
        found = {(cell[one], cell[other]) for cell in cells()}
        among = [(a, b) for a in CHOICES[one] for b in CHOICES[other] if PROMOTED not in (a, b)]
        missing = [pair for pair in among if pair not in found]
        assert len(missing) <= len(among) // 8, (one, other, missing)


CELL: Cell = {
    "parts": "3", "operands": "nvfp4", "epilogue": "vectors", "swap": "no", "tile_m": 128, "tile_n": 64,
    "cluster": "1 x 1",
}  # fmt: skip
PAIR: Cell = {**CELL, "epilogue": "rows", "tile_m": 256, "tile_n": 256, "cluster": "2 x 1", "parts": "4"}


def test_parts_of_k(check: Check) -> None:
    """Two parts of two steps, the last one short, of two tiles; and one step, which is one part."""
    check(spec(CELL), M=5, N=72, K=800, sms=2, mode="delayed")
    check(spec(CELL), M=3, N=16, K=64)


@pytest.mark.slow
def test_a_pair_stays_within_a_part(check: Check) -> None:
    """Accumulators that share columns: a part is read from both, and what is added up is put back before they go on."""
    for sms in (2, 4, 148):
        check(spec(PAIR), M=200, N=288, K=2304, sms=sms, mode="delayed", seed=sms, order="strict")


@pytest.mark.slow
def test_parts_by_the_sizes_of_a_call(compiler: Any, run: Run) -> None:
    """One tile and a long K: `auto` takes several parts, and their workspace; a short K takes one, and none."""
    artifact = compiler.artifact(spec({**CELL, "parts": "auto"}))
    assert run(artifact, M=16, N=64, K=16384, mode="delayed").equal
    assert run(artifact, M=16, N=64, K=512, mode="delayed").equal


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        spec({**CELL, "operands": "w4a16", "epilogue": "plain", "tile_m": 256, "cluster": "2 x 1"}),
        spec({**CELL, "operands": "w4a16", "epilogue": "plain", "swap": "yes", "parts": "4"}),
        spec({**CELL, "operands": "bf16", "epilogue": "vectors", "cluster": "2 x 2"}),
    ],
    ids=["pair", "swapped", "cluster"],
)
def test_the_same_bits_on_any_number_of_sms(compiler: Any, text: str) -> None:
    """Sums are not exact here, so that another order would show."""
    artifact = compiler.artifact(text, "sm_100a")
    found = {bits(artifact, sms, seed, M=300, N=160, K=672) for sms, seed in ((4, 0), (8, 1), (148, 2))}
    assert len(found) == 1


@pytest.mark.slow
def test_the_same_bits_on_one_sm(compiler: Any) -> None:
    artifact = compiler.artifact(spec({**CELL, "operands": "w4a16", "epilogue": "plain"}), "sm_100a")
    found = {bits(artifact, sms, seed, M=40, N=160, K=672) for sms, seed in ((1, 0), (8, 1), (148, 2))}
    assert len(found) == 1


EPILOGUE, MMA = role("epilogue"), role("mma")


def waits(kind: str, which: int = 0) -> Find:
    """A wait of the epilogue warps for their reads of tensor memory, or for what they put there."""
    return call(EPILOGUE, "tcgen05_wait", which, lambda each: kind in ast.unparse(each))


MUTATIONS = [
    *ARRIVALS,
    Mutation("parts added to one another's columns", without(call(EPILOGUE, "clear"))),
    Mutation("sums stored before they are read", without(waits("LOAD")), ordered=True),
    Mutation("sums of all parts read before they are there", without(waits("STORE", 1)), ordered=True),
    Mutation("a part is added to the one before", at(argument(call(MMA, "range", 1), 0), to("0"))),
    Mutation("sums of a part are not given back", without(call(EPILOGUE, "mbarrier_arrive", 1))),
]


def caught(compiler: Any, run: Run, mutation: Mutation) -> None:
    assert_caught(compiler, run, spec(CELL), "sm_100a", mutation, sms=2, M=4, N=200, K=1600)


def test_an_arrival_without_an_order_is_caught(compiler: Any, run: Run) -> None:
    caught(compiler, run, MUTATIONS[0])


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS[1:], ids=lambda each: each.name.replace(" ", "-"))
def test_mutation_is_caught(compiler: Any, run: Run, mutation: Mutation) -> None:
    caught(compiler, run, mutation)
