"""The transformer of examples/: trained in recipes for training, converted to those for inference, tiny, on the CPU."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fp4cc.supply import artifact
from fp4rt.recipes import RECIPES

pytestmark = pytest.mark.torch

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "transformer"
SIZES = {"layers": 1, "width": 128, "heads": 2, "context": 32, "batch": 4, "bytes": 100_000, "pieces": 16, "warmup": 2}
INFERENCE = [name for name, recipe in RECIPES.items() if recipe.kind == "inference"]


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(EXAMPLE))
    names = ("model", "steps", "train", "infer")
    yield {name: import_module(name) for name in names}
    sys.path.remove(str(EXAMPLE))
    for name in names:
        del sys.modules[name]


def trained_as(example: dict[str, ModuleType], folder: Path, recipe: str, **options: Any) -> dict[str, Any]:
    parser = example["train"].parser()
    parser.set_defaults(**{**SIZES, "every": 4, "steps": 12, "artifacts": artifact, **options})
    return example["train"].train(parser.parse_args(["-o", str(folder), "--recipe", recipe]))


@pytest.mark.parametrize("recipe", ["bf16", "mxfp8_training", "nvfp4_training"])
def test_a_run_learns_and_goes_on_where_it_stopped(example: dict[str, ModuleType], recipe: str, tmp_path: Path) -> None:
    trained = functools.partial(trained_as, width=64, batch=2)
    whole = trained(example, tmp_path / "whole", recipe)
    assert whole["losses"][-1][1] < whole["losses"][0][1]
    first = trained(example, tmp_path / "parts", recipe, seconds=0.0)
    assert (first["steps"], first["of"]) == (4, 12)
    rest = trained(example, tmp_path / "parts", recipe)
    # Sums of float32 on the CPU depend on how its threads share them, and a run of any kind on that.
    assert [step for step, _ in rest["losses"]] == [4, 8, 12]
    assert rest["validation"] == pytest.approx(whole["validation"], rel=1e-3)
    assert json.loads((tmp_path / "parts" / f"{recipe}-0.json").read_text())["tokens"] == 12 * 2 * 32


def test_the_same_weights_for_inference_in_each_recipe(example: dict[str, ModuleType], tmp_path: Path) -> None:
    trained_as(example, tmp_path, "bf16", steps=30)
    options = example["infer"].parser().parse_args([str(tmp_path / "bf16-0.pt")])
    options.artifacts, options.pieces, options.count, options.bytes = artifact, 16, 4, 100_000
    found = example["infer"].compare(options)
    assert list(found) == ["bf16", *INFERENCE]
    base = found["bf16"][0]
    for recipe, (loss, _) in found.items():
        assert loss == pytest.approx(base, rel=0.02 if "4" in recipe else 0.005), recipe
    assert len({loss for loss, _ in found.values()}) == len(found)
    assert example["infer"].table(found).count("\n") == len(found) + 1


def test_the_schedule_and_the_text(example: dict[str, ModuleType]) -> None:
    rate = functools.partial(example["steps"].rate_at, steps=100, peak=1.0, warmup=10)
    assert (rate(0), rate(9), rate(10)) == (0.1, 1.0, 1.0)
    assert rate(55) == pytest.approx(0.5)
    assert rate(100) == pytest.approx(0)
    learned, measured = example["model"].corpus(50_000)
    assert len(learned) == len(measured) == 50_000
    assert not torch.equal(learned, measured)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", INFERENCE)
def test_the_model_on_the_emulator_is_near_the_references(example: dict[str, ModuleType], recipe: str) -> None:
    """The kernels that a GPU would run; sums of f32 in another order make the last bit of bf16."""
    model = example["model"]
    x = torch.arange(32).reshape(1, 32)
    found = []
    for device in ("emulator", "reference"):
        torch.manual_seed(0)
        net = model.Transformer(model.Shape(1, 128, 2, 32)).bfloat16()
        supply = functools.partial(artifact, plans=1)
        with torch.no_grad():
            found.append(
                example["train"].fp4rt.torch.convert(net, recipe, model.in_blocks, device=device, artifacts=supply)(x)
            )
    difference = (found[0].float() - found[1].float()).norm() / found[1].float().norm()
    assert difference < (0.02 if "w4a16" not in recipe else 0.005)
