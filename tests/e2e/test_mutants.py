"""Every planted mistake is found in a kernel by what it breaks, however its file is worded: without running it."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from functools import cache

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import plans
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.sema import analyze
from fp4cc.source import Source

from . import test_hopper_mutations as hopper
from . import test_hopper_weights_mutations as weights
from . import test_mutations as blackwell
from .mutants import B2, Emitted, Mutation, NotThereError, arrival, at, coordinate, plus, wait, without

CASES = [
    *((blackwell.spec(schedule)[0], "sm_100a", mutation) for schedule, mutation in blackwell.CASES),
    *((hopper.SPECS[name], "sm_90a", mutation) for name, mutation in hopper.CASES),
    *((weights.SPECS[name], "sm_90a", mutation) for name, mutation in weights.CASES),
]
#: Kernels with operands converted in shared memory, which another engine would make else.
SLOTTED = set(hopper.SPECS.values())
KERNELS = list(dict.fromkeys((text, target) for text, target, _ in CASES))


@cache
def emitted(text: str, target: str) -> list[tuple[LoweredKernel, str]]:
    """The plans and the files of a kernel's launches."""
    with ENGINES.without("wgmma_rs") if text in SLOTTED else nullcontext():
        lowered = lower(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0], target)
    return [(plan, emit(plan)) for plan in plans(lowered).values()]


@pytest.mark.parametrize(("text", "target"), KERNELS)
def test_mistakes_are_planted_whatever_the_wording(text: str, target: str) -> None:
    """Without comments, with other line breaks, and with other names for what only the text has names for."""
    files = [(plan, _reworded(file)) for plan, file in emitted(text, target)]
    for *case, mutation in CASES:
        if tuple(case) == (text, target):
            mutation.change(Emitted(*files[mutation.launch]))


def _reworded(file: str) -> str:
    tree = ast.parse(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("full", "stage", "source"):
            node.id += "_at_hand"
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (without(wait("convert", "ab_full")), "convert"),
        (without(arrival("epilogue", "ab_full")), "mbarrier_arrive at ab_full of the epilogue warps"),
        (at(coordinate(B2, 1), plus(1)), "load of b2"),
        (at(lambda emitted: emitted.function("nothing"), plus(1)), "function nothing"),
    ],
)
def test_what_is_not_there_is_said(change: object, what: str) -> None:
    ((plan, file),) = emitted(blackwell.spec(blackwell.SINGLE)[0], "sm_100a")
    with pytest.raises((NotThereError, KeyError), match=what):
        Mutation("nothing to break", change).applied(plan, file)  # pyright: ignore[reportArgumentType]


def test_a_change_that_changes_nothing_is_no_mistake() -> None:
    ((plan, file),) = emitted(blackwell.spec(blackwell.SINGLE)[0], "sm_100a")
    with pytest.raises(AssertionError, match="as it was"):
        Mutation("nothing", lambda _: None).applied(plan, file)
