"""`reduce atomic`: parts of K add to an output in memory, in whatever order they come.

On data for which every order is exact, outputs equal the reference's bit for bit, with copies, CTAs and warps in a
random order; on other data they are within the bound that docs/numerics.md states.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp4rt import random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.trial import run_trial

from .mutants import Mutation, at, instruction, operands
from .test_mutations import assert_caught

Run = Callable[..., Any]

TARGETS = ("sm_90a", "sm_100a")
#: Arguments and statements; the products are x @ w.T.
SUMS = {
    "blocks": "in x : nvfp4[M, K]; in w : nvfp4[N, K]; param alpha : f32; inout c : f32[M, N]\n"
    "c = c + alpha * (x @ w.T)",
    "rows": "in x : mxfp8[M, K]; in w : mxfp4[N, K]; in r : f32[M]; in b : bf16[N]; inout c : f32[M, N]\n"
    "c = r * (x @ w.T) * b + c",
    "weights": "in x : bf16[M, K]; in w : nvfp4[N, K]; inout c : f32[M, N]\nc = c + -(-(x @ w.T))",
    "plain": "in x : bf16[M, K]; in w : bf16[N, K]; in s : f32[]; inout c : f32[M, N]\nc = c + (x @ w.T) / s",
    "across": "in x : bf16[M, K]; in w : nvfp4[N, K]; inout c : f32[N, M]\nc = c + (x @ w.T).T",
    "two": "in x : nvfp4[M, K]; in w : nvfp4[N, K]; in d : nvfp4[N, K]; inout c : f32[M, N]; inout e : f32[M, N]\n"
    "c = c + x @ w.T\ne = e + 2 * (x @ d.T)",
    "batches": "in x : mxfp4[L, M, K]; in w : mxfp4[L, N, K]; inout c : f32[L, M, N]\nc = c + x @ w.T",
    "promoted": "in x : ds_act[M, K]; in w : ds_weight[N, K]; inout c : f32[M, N]\nc = c + x @ w.T",
    "fast": "in x : e4m3[M, K]; in w : e5m2[N, K]; inout c : f32[M, N]\nc = c + matmul(x, w.T, accumulate = fast)",
}
PARTS = ("1", "2", "3", "8", "auto")
SWAPPED = ("blocks", "weights", "rows")


def spec(name: str, target: str, fields: str = "split_k 3") -> str:
    dims = "L, M, N, K" if name == "batches" else "M, N, K"
    return f"kernel gemm({dims}) {{ {SUMS[name]} }}\nschedule gemm on {target} {{ reduce atomic; {fields} }}\n"


def exact(run: Run, artifact: Any, **options: Any) -> None:
    """A run whose outputs are the reference's bit for bit, and not those of an output that was cleared."""
    trial = run(artifact, mode="delayed", order="strict", **options)
    assert trial.identical, trial.comparisons
    assert all(np.count_nonzero(value) for value in trial.outputs.values())


def test_parts_of_k(compiler: Any, run: Run) -> None:
    exact(run, compiler.artifact(spec("blocks", "sm_100a"), "sm_100a"), M=20, N=72, K=800, sms=5, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SUMS)
def test_every_sum(compiler: Any, run: Run, target: str, name: str) -> None:
    numbers = random.Random(f"{target}{name}")
    parts = numbers.choice(PARTS)
    store = numbers.choice(["auto", "direct"])
    cells = [f"split_k {parts}; store {store}"] if name != "promoted" or target == "sm_90a" else [f"split_k {parts}"]
    if target == "sm_100a" and name in SWAPPED:
        cells.append(f"split_k {parts}; swap_ab yes")
        cells.append(f"split_k {parts}; cluster 2 x 1; cta_group 2")
    if name in ("promoted", "fast", "rows"):
        sizes = {"K": 128 * numbers.choice([1, 3, 9])}
    else:
        sizes = {"K": 64 * numbers.choice([1, 5, 17])}
    if name == "batches":
        sizes["L"] = 2
    for fields in cells:
        artifact = compiler.artifact(spec(name, target, fields), target)
        for sms in numbers.sample((2, 8, 148), 2):
            seed = numbers.randint(0, 99)
            rows = {"M": numbers.randint(1, 200), "N": 16 * numbers.randint(1, 12)}
            exact(run, artifact, sms=sms, seed=seed, **rows, **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_launches_that_overlap(compiler: Any, run: Run, target: str) -> None:
    artifact = compiler.artifact(spec("plain", target, "split_k 4; overlap early"), target)
    exact(run, artifact, M=60, N=80, K=640, sms=8, overlap=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blocks", "plain"])
@pytest.mark.parametrize("target", TARGETS)
def test_inexact_sums_are_within_the_bound(compiler: Any, target: str, name: str) -> None:
    """Numbers of many bits: bits differ from the reference's, and from order to order, and never more than they may."""
    artifact = compiler.artifact(spec(name, target, "split_k 8"), target)
    dims = {"M": 40, "N": 48, "K": 2048}
    found: set[bytes] = set()
    for seed in range(2):
        inputs = random_inputs(artifact.manifest, dims, seed=1, exact=False)
        device = EmulatorDevice(mode="delayed", seed=seed, sms=8 + seed)
        trial = run_trial(artifact.load_kernel(device), artifact.load_kernel("reference"), inputs, dims, bounded=True)
        assert trial.equal, trial.comparisons
        assert trial.comparisons[0].within
        found.add(np.asarray(trial.outputs["c"]).tobytes())
    assert found


MUTATIONS = [
    Mutation("stored, not added", at(instruction("red.relaxed"), operands("red.relaxed.gpu.global.add", "st.global"))),
    Mutation("added for this CTA alone", at(instruction("red.relaxed"), operands("gpu", "cta")), ordered=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name.replace(" ", "-"))
def test_mutation_is_caught(compiler: Any, run: Run, mutation: Mutation, target: str) -> None:
    assert_caught(compiler, run, spec("plain", target), target, mutation, sms=8, M=40, N=40, K=640)
