"""Training steps of grouped layers: every output of the kernels against each expert by itself, and against a loop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fp4cc.supply import artifact
from fp4num import quantize
from fp4rt.experts import route, spread

from .conftest import RECIPES, Recipe, bf16, codes, equal, f32, product


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    folder = str(RECIPES.parent / "experts")
    sys.path.insert(0, folder)
    yield import_module("train")
    sys.path.remove(folder)
    del sys.modules["train"]


def on_reference(name: str, **inputs: Any) -> dict[str, Any]:
    """A kernel of the recipe, which nothing has compiled."""
    return dict(artifact("mx_experts_training", name, None).load_kernel("reference")(**inputs))


def mx_step(recipe: Recipe | None, example: ModuleType, tokens: int, count: int, top: int, n: int, k: int) -> None:
    """The step of the example, of numbers whose products are exact: equal to each expert's by itself."""
    rng = np.random.default_rng(tokens)
    x, d = (bf16(rng.integers(-100, 101, (tokens, size)) / 64) for size in (k, n))
    w, logits = bf16(rng.integers(-100, 101, (count, n, k)) / 64), rng.normal(size=(tokens, count)).astype(np.float32)
    logits[:, 1] = -9  # an expert without a row
    routing = route(logits, top, align=32)
    routing.weights[...] = 2.0 ** rng.integers(-2, 1, routing.weights.shape)

    calls: dict[str, dict[str, Any]] = {}

    def chain(runner: Any) -> dict[str, Any]:
        def run(name: str, **inputs: Any) -> dict[str, Any]:
            calls[name] = runner(name, **inputs)
            return calls[name]

        return {"dw": example.step(run, x, w, d, routing, nvfp4=False)["dw"]}

    if recipe is None:
        chain(on_reference)
    else:
        recipe.run(chain)
    rows, dy = f32(x)[routing.rows], f32(spread(d, routing))
    assert equal(calls["quantize_x"]["qt"], quantize(rows.T, "mxfp8_e4m3"))
    assert equal(calls["quantize_dy"]["qt"], quantize(dy.T, "mxfp8_e5m2"))
    for e, (low, high) in enumerate(pairwise(routing.offsets)):
        xs, ds = rows[low:high], dy[low:high]
        right, turned = quantize(f32(w[e]), "mxfp8_e4m3"), quantize(f32(w[e]).T, "mxfp8_e4m3")
        y = product(quantize(xs, "mxfp8_e4m3"), right)
        dx = product(quantize(ds, "mxfp8_e5m2"), turned)
        np.testing.assert_array_equal(codes(calls["fprop"]["y"])[low:high], bf16(y))
        np.testing.assert_array_equal(codes(calls["dgrad"]["dx"])[low:high], bf16(dx))
        dw = product(quantize(ds.T, "mxfp8_e5m2"), quantize(xs.T, "mxfp8_e4m3"))
        np.testing.assert_array_equal(calls["wgrad"]["dw"][e], dw)


def test_the_references_step_is_each_expert_by_itself(example: ModuleType) -> None:
    mx_step(None, example, 9, 4, 2, 64, 32)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(9, 4, 2, 64, 32), (140, 3, 2, 96, 160), (200, 40, 3, 32, 64)], ids=str)
def test_a_step_is_each_expert_by_itself(
    recipe: Callable[[str], Recipe], example: ModuleType, sizes: tuple[int, int, int, int, int]
) -> None:
    mx_step(recipe("mx_experts_training"), example, *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_the_script_ends_well(example: ModuleType, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main(["--target", target, "--tokens", "20"]) == 0
    assert capsys.readouterr().out.count("of the loop's norm") == 2


def test_the_script_ends_well_on_the_reference(example: ModuleType) -> None:
    options = example.parser().parse_args(["--device", "reference", "--tokens", "5", "--experts", "3"])
    mx, nvfp4 = (
        max(example.compare(options, name).values()) for name in ("mx_experts_training", "nvfp4_experts_training")
    )
    assert 0.01 < mx < nvfp4 < 0.3


def test_the_script_tells_a_wrong_gradient(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = example.step

    def wrong(*args: Any, **options: Any) -> dict[str, Any]:
        return {name: value[..., ::-1] if name == "dw" else value for name, value in right(*args, **options).items()}

    monkeypatch.setattr(example, "step", wrong)
    assert example.main(["--device", "reference", "--tokens", "5"]) == 1
