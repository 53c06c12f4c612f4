"""A whole layer of experts, from logits to tokens: kernels, the reference, and a model that loops over experts."""

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
from fp4num import Quantized, functions, quantize
from fp4rt.experts import Routing, combine, route
from fp4rt.io import stack_experts

from .conftest import RECIPES, Recipe, bf16, codes, f32, product

SCALES = np.float32(4 / 2688), np.float32(64 / 2688)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    folder = str(RECIPES.parent / "experts")
    sys.path.insert(0, folder)
    yield import_module("layer")
    sys.path.remove(folder)
    del sys.modules["layer"]


def small(rng: np.random.Generator, shape: tuple[int, ...], most: int, unit: float) -> np.ndarray:
    """Multiples of a power of two, few enough that sums of products are exact."""
    return (rng.integers(-most, most + 1, shape) * unit).astype(np.float32)


def experts_of(rng: np.random.Generator, count: int, shape: tuple[int, int]) -> list[Quantized]:
    """Each with a tensor scale of its own."""
    return [quantize(small(rng, shape, 6, 0.25), "nvfp4", tensor_scale=np.float32(2.0**-e)) for e in range(count)]


def model(x: np.ndarray, routing: Routing, ups: list[Quantized], downs: list[Quantized]) -> np.ndarray:
    """bf16 codes of the layer, each expert's rows by themselves."""
    rows, out = f32(x)[routing.rows], np.zeros((len(routing.rows), downs[0].shape[0]), np.uint16)
    for (first, last), up, down in zip(pairwise(routing.offsets), ups, downs, strict=True):
        both = product(quantize(rows[first:last], "nvfp4", tensor_scale=SCALES[0]), up)
        h = quantize(functions.silu(both[:, 0::2]) * both[:, 1::2], "nvfp4", tensor_scale=SCALES[1])
        out[first:last] = bf16(product(h, down))
    return combine(out, routing)


def on_reference(name: str, **inputs: Any) -> dict[str, Any]:
    """A kernel of the recipe, which nothing has compiled."""
    return dict(artifact("nvfp4_experts", name, None).load_kernel("reference")(**inputs))


def run(recipe: Recipe | None, example: ModuleType, seed: int, sizes: tuple[int, int, int, int, int]) -> None:
    tokens, count, top, d, f = sizes
    rng = np.random.default_rng(seed)
    x, logits = bf16(small(rng, (tokens, d), 4, 0.5)), rng.normal(size=(tokens, count)).astype(np.float32)
    if count > top:
        logits[:, 1] = -9  # an expert without a row
    ups, downs = experts_of(rng, count, (2 * f, d)), experts_of(rng, count, (d, f))
    routing = route(logits, top)
    up, down = (stack_experts(parts, "nvfp4_experts").weight for parts in (ups, downs))

    def chain(runner: Any) -> dict[str, Any]:
        return {"y": example.layer(runner, x, routing, up, down, SCALES)}

    found = (chain(on_reference) if recipe is None else recipe.run(chain))["y"]
    np.testing.assert_array_equal(codes(found), model(x, routing, ups, downs))


def test_the_references_layer_is_the_loop_over_experts(example: ModuleType) -> None:
    run(None, example, 0, (9, 4, 2, 64, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [(9, 4, 2, 64, 32), (1, 2, 1, 64, 64), (140, 3, 2, 64, 64), (200, 40, 3, 32, 64)], ids=str
)
def test_a_layer_is_the_loop_over_experts(
    recipe: Callable[[str], Recipe], example: ModuleType, sizes: tuple[int, int, int, int, int]
) -> None:
    run(recipe("nvfp4_experts"), example, 1, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_the_script_ends_well(example: ModuleType, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main(["--target", target, "--tokens", "20"]) == 0
    assert capsys.readouterr().out.count("of the loop's norm") == 2


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_the_script_ends_well_without_permuted_tokens(example: ModuleType, target: str) -> None:
    assert example.main(["--target", target, "--tokens", "7", "--by-number"]) == 0


def test_the_script_ends_well_on_the_reference(example: ModuleType) -> None:
    found = example.compare(example.parser().parse_args(["--device", "reference", "--tokens", "5", "--experts", "3"]))
    assert 0.01 < found["bf16"] < found["NVFP4"] < 0.3


def test_the_script_tells_a_wrong_layer(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = example.layer

    def wrong(run: Any, x: Any, routing: Routing, *others: Any) -> Any:
        shifted = Routing(routing.experts, routing.weights, routing.offsets, routing.rows[::-1], routing.places)
        return right(run, x, shifted, *others)

    monkeypatch.setattr(example, "layer", wrong)
    assert example.main(["--device", "reference", "--tokens", "5"]) == 1
