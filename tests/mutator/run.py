"""Runs mutants of a kernel, and tells what finds each: a fault, a deadlock, a hang or a wrong result."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fp4rt import KernelFault
from fp4rt.errors import DeviceError

from .kernels import Broken
from .mutations import Mutation, mutations

WAYS = (("immediate", 0), ("delayed", 0), ("delayed", 1))
"""The runs of `fp4cc verify`: at once, and with two seeds of delays."""


@dataclass(frozen=True)
class Verdict:
    """What found a mutant ("" if nothing did), and the words of it."""

    title: str
    around: str
    kind: str
    found: str
    words: str = ""


def every(broken: Broken) -> list[tuple[str, str, Mutation]]:
    """(module, entry, mutation) of all that can be broken in what the calls execute."""
    return [
        (name, entry, mutation)
        for (name, entry), reached in sorted(broken.reached.items())
        for mutation in mutations(broken.modules()[name].tree.functions[entry], broken.artifact.manifest.target)
        if mutation.index in reached
    ]


def sampled(broken: Broken, count: int | None, seed: int) -> list[tuple[str, str, Mutation]]:
    """A sample of them, in their order; all without a count."""
    found = every(broken)
    if count is None or count >= len(found):
        return found
    return [found[i] for i in sorted(random.Random(seed).sample(range(len(found)), count))]


def judged(broken: Broken, chosen: list[tuple[str, str, Mutation]]) -> Iterator[Verdict]:
    """Runs mutants one by one."""
    for name, entry, mutation in chosen:
        function = broken.modules()[name].tree.functions[entry]
        runs = ((call, *way) for way in WAYS for call in range(len(broken.inputs)))
        found, words = next((done for run in runs if (done := _run(broken, name, entry, mutation, *run))[0]), ("", ""))
        yield Verdict(f"{name}: {mutation.title(function)}", mutation.around(function), mutation.kind, found, words)


def _run(broken: Broken, name: str, entry: str, mutation: Mutation, call: int, mode: str, seed: int) -> tuple[str, str]:
    module = broken.modules(mode, seed)[name]
    right = module.tree.functions[entry]
    module.tree.functions[entry] = mutation.applied(right)
    kept = dict(module.programs)
    module.programs.clear()
    try:
        outputs = broken.run(call, mode, seed)
    except KernelFault as fault:
        text = str(fault)
        return "deadlock" if "deadlock" in text else "fault", text
    except DeviceError as over:
        return "hang", str(over)
    finally:
        module.tree.functions[entry] = right
        module.programs.clear()
        module.programs.update(kept)
    wrong = [key for key, value in outputs.items() if not np.array_equal(value, broken.expected[call][key])]
    return ("wrong result", ", ".join(wrong)) if wrong else ("", "")
