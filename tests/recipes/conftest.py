"""Whole recipes: each kernel of a file compiled once, and the recipe run on the emulator and on the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fp4cc
from fp4num import Quantized, decode, dequantize, encode
from fp4num.dtypes import raw_codes
from fp4rt import Artifact, Kernel
from fp4rt.compare import compare_outputs

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
Floats = NDArray[np.float32]


def bf16(x: NDArray[Any]) -> NDArray[np.uint16]:
    """Codes of the values rounded to bf16: how numpy passes a bf16 tensor."""
    return np.asarray(encode(np.asarray(x, np.float32), "bf16"), np.uint16)


def codes(output: NDArray[Any]) -> NDArray[np.uint16]:
    """The codes of a bf16 output, whose dtype says that it is one."""
    return raw_codes(output, "bf16")


def f32(codes: NDArray[Any]) -> Floats:
    """The values of bf16 codes."""
    return decode(codes, "bf16")


def product(a: Quantized, b: Quantized) -> Floats:
    """a @ b.T as the language defines it, after checking that its sums are exact in f32, in any order."""
    left, right = (dequantize(q, tensor_scale=False).astype(np.float64) for q in (a, b))
    total = np.abs(left) @ np.abs(right).T
    assert (total < 2**24 * _units(left)[:, None] * _units(right)[None, :]).all(), "choose inputs with exact sums"
    value = (left @ right.T).astype(np.float32)
    if a.tensor_scale is None:
        return value
    return value * (np.float32(a.tensor_scale) * np.float32(b.tensor_scale))


def _units(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each row, a power of two that divides all of it."""
    units = np.full(len(values), 2.0**20)
    for _ in range(80):
        wrong = (np.rint(values / units[:, None]) != values / units[:, None]).any(axis=1)
        if not wrong.any():
            break
        units = np.where(wrong, units / 2, units)
    return units


def equal(found: Quantized, expected: Quantized) -> bool:
    """Codes, scale bytes with their padding, and tensor scale."""
    assert found.format == expected.format
    return (
        np.array_equal(found.codes, expected.codes)
        and np.array_equal(found.scales, expected.scales)
        and np.array_equal(found.tensor_scale, expected.tensor_scale)
    )


class Runner:
    """Calls kernels of one file on one device, and keeps what they gave."""

    def __init__(self, artifacts: Callable[[str], Artifact], device: str) -> None:
        self.artifacts = artifacts
        self.device = device
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, **inputs: Any) -> dict[str, Any]:
        kernel: Kernel = self.artifacts(name).load_kernel(self.device)
        outputs = kernel(**inputs)
        self.calls.append((name, outputs))
        return outputs


Chain = Callable[[Runner], dict[str, Any]]


class Recipe:
    """One file of examples/recipes."""

    def __init__(self, name: str) -> None:
        self.path = RECIPES / f"{name}.fp4"
        self.artifact = cache(lambda kernel: fp4cc.compile(self.path, kernel=kernel, plans=1))

    def run(self, chain: Chain) -> dict[str, Any]:
        """What the chain gives on the emulator, where every kernel's output is the reference's chain's, byte for byte.

        The two chains share nothing but the first inputs: each kernel reads what the one before gave on its device.
        """
        runners = [Runner(self.artifact, device) for device in ("emulator", "reference")]
        found, _ = (chain(runner) for runner in runners)
        for (name, ours), (_, theirs) in zip(runners[0].calls, runners[1].calls, strict=True):
            for comparison in compare_outputs(self.artifact(name).manifest, ours, theirs):
                assert comparison.different == 0, f"{name}: {comparison}"
        return found


@pytest.fixture(scope="session")
def recipe() -> Callable[[str], Recipe]:
    """`recipe("ptq_linear")`; kernels are compiled once for all tests."""
    return cache(Recipe)
