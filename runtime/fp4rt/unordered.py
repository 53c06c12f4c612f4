"""Outputs to which parts of a sum are added in memory, in whatever order they come (`reduce atomic`).

Their numbers can be checked bit for bit on data for which every order is exact: products with the unit 1, factors that
are powers of two, and in the output multiples of any unit that such factors make of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fp4rt.manifest import Manifest
from fp4rt.typed import TypedKernel
from fp4rt.work import argument_of

#: What an argument is to such a sum: an operand of its products, a factor, or what is in the output before.
Share: TypeAlias = Literal["operand", "factor", "start"]
#: Sums of terms stay below this many units, those of the output's old values with them below four times as many.
TERMS = 1 << 22
#: An old value is a multiple of this, up to so many times. Six factors of 1/2 or of 2 leave the sum exact.
_STEP, _MOST = 64, 1 << 10


def unordered_outputs(manifest: Manifest | TypedKernel) -> frozenset[str]:
    """The outputs that some plan adds to so."""
    if not isinstance(manifest, Manifest):
        return frozenset()
    return frozenset(name for plan in manifest.plans().values() for name in plan.unordered)


def shares(kernel: TypedKernel, outputs: frozenset[str]) -> dict[str, Share]:
    """The arguments that such outputs are made of, with what they are to the sum."""
    found: dict[str, Share] = {}
    for index in _below(kernel, outputs):
        value = kernel.values[index]
        if value.op == "matmul":
            sides = [argument_of(kernel, operand) for operand in value.operands]
            found.update({side.name: "operand" for side in sides if side is not None})
    for index in _below(kernel, outputs):
        value = kernel.values[index]
        if value.op == "arg":
            name = str(value.attrs["name"])
            found.setdefault(name, "start" if name in outputs else "factor")
    return found


def _below(kernel: TypedKernel, outputs: frozenset[str]) -> Iterator[int]:
    """The values that such outputs need."""
    pending = [store.value for store in kernel.stores if store.arg in outputs]
    seen: set[int] = set()
    while pending:
        index = pending.pop()
        if index not in seen:
            seen.add(index)
            pending.extend(kernel.values[index].operands)
            yield index


def old_values(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """What is in an output before: multiples of 64, most of them not 0."""
    return (_STEP * rng.integers(-_MOST, _MOST + 1, shape)).astype(np.float32)


def powers(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Powers of two of both signs, 1/2 to 2."""
    return np.ldexp(rng.choice([-1.0, 1.0], shape), rng.integers(-1, 2, shape)).astype(np.float32)
