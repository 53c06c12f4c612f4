"""Who supplies compiled kernels, and what recipes ask for: found by name, or an error that says what to do."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fp4cc.driver import RequestError
from fp4cc.supply import artifact
from fp4rt import Artifact, supply
from fp4rt.errors import ArtifactError, DeviceError, TorchError
from fp4rt.quantizing import FILE, kernel_names, spec_text
from fp4rt.recipes import RECIPES, Recipe, find, kernels_of

ROOT = Path(__file__).resolve().parents[2]
typed = cache(lambda name: artifact(*name.split("/"), None).manifest.kernel)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "entry_points", lambda **_: ())
    monkeypatch.delenv(supply.FOLDERS, raising=False)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: r.name)
def test_the_kernels_of_a_recipe_fit_together(recipe: Recipe) -> None:
    """What a quantizer gives is, property by property, what the product takes."""
    kernels = {role: typed(name) for role, name in recipe.kernels.items()}
    formats = {role: {a.name: a.format for a in k.args if a.format is not None} for role, k in kernels.items()}
    if recipe.kind == "inference":
        assert formats["linear"]["w"] == formats["weight"]["q"]
        assert formats["partial"] == formats["linear"]
        assert [k.args[-1].dtype for k in (kernels["linear"], kernels["partial"])] == ["bf16", "f32"]
        assert formats["linear"].get("x") == formats.get("input", {}).get("q")
        for part in ("weight", "input"):
            takes = {a.name for a in kernels[part].args} if part in kernels else set[str]()
            assert ("amax" in takes) == (f"largest_{part}" in kernels)
        return
    if recipe.kind == "experts":
        hidden = formats.get("activation", formats["gate_up"])
        assert formats["down"].get("x") == hidden.get("q", hidden.get("h")) == formats.get("quantize", {}).get("q")
        assert formats["gate_up"].get("x") == formats["down"].get("x")
        assert formats["down"]["w"] == formats["gate_up"]["w"]
        return
    if recipe.kind == "qat":
        names = {role: {a.name for a in k.args} for role, k in kernels.items()}
        assert names["fake"] == {"x", "amax", "y"} and names["largest"] == {"x", "amax"}
        assert names["fake_scaled"] == {"x", "ts", "y"} and names["straight_through"] == {"x", "ts", "dq", "dx"}
        return
    if "transpose" in kernels:
        back = formats["transpose"]["qt"]
        assert formats["fprop"] == dict.fromkeys("xw", formats["quantize"]["q"])
        assert formats["quantize_dy"] == {"q": back, "qt": back}
        assert formats["dgrad"] == {"dy": back, "wt": back} and formats["wgrad"] == {"dyt": back, "xt": back}
        return
    for product, operands in {
        "fprop": {"x": ("x", "q"), "w": ("w", "q")},
        "dgrad": {"dy": ("dy", "q"), "wt": ("w", "qt")},
        "wgrad": {"dyt": ("dy", "qt"), "xt": ("x", "qt")},
    }.items():
        assert formats[product] == {arg: formats[f"quantize_{of}"][q] for arg, (of, q) in operands.items()}


def test_recipes_are_found_by_name() -> None:
    assert find("nvfp4") is find(RECIPES["nvfp4"]) is RECIPES["nvfp4"]
    with pytest.raises(TorchError, match="FP6142: no recipe is called 'mxfp8_trainig'\n.* mean 'mxfp8_training'"):
        find("mxfp8_trainig")
    assert kernels_of([RECIPES["mxfp8"], RECIPES["mxfp8"]]) == [
        ("linear_layers", "mxfp8"),
        ("linear_layers", "mxfp8_partial"),
        ("linear_layers", "quantize_mxfp8"),
    ]


def test_the_compiler_is_registered_under_the_group_that_the_runtime_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (target,) = project["entry-points"][supply.GROUP].values()
    module, _, name = target.partition(":")
    assert getattr(import_module(module), name) is artifact


def test_nobody_a_folder_and_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError) as stop:
        supply.supplier()
    assert str(stop.value) == (
        "FP6140: there are no compiled kernels, and no compiler that could make them is installed\n"
        "  help: pip install fp4cc, or run `fp4cc recipes build -o DIR` where it is installed and pass artifacts=DIR "
        "(or set FP4RT_ARTIFACTS=DIR)"
    )
    assert not supply.known()
    with pytest.raises(ArtifactError) as stop:
        supply.supplier(tmp_path / "no")
    assert str(stop.value) == f"FP6141: {tmp_path}/no is no folder of artifacts\n  help: see `fp4cc recipes build`"
    saved = artifact("linear_layers", "mxfp8", None)
    saved.save(tmp_path / "sm_90a" / "linear_layers")
    assert supply.supplier(tmp_path)("linear_layers", "mxfp8", "sm_90a").manifest == saved.manifest
    assert supply.supplier(tmp_path)("linear_layers", "mxfp8", None).manifest == saved.manifest
    with pytest.raises(ArtifactError) as stop:
        supply.supplier(tmp_path)("linear_layers", "mxfp4", "sm_90a")
    assert str(stop.value) == (
        f"FP6141: {tmp_path} has no kernel mxfp4 of linear_layers for sm_90a\n"
        "  help: make it: fp4cc recipes build -o DIR --target sm_90a"
    )
    (tmp_path / "other").mkdir()
    monkeypatch.setenv(supply.FOLDERS, os.pathsep.join([str(tmp_path / "other"), str(tmp_path)]))
    assert supply.known() and supply.supplier()("linear_layers", "mxfp8", None).manifest == saved.manifest

    def mine(file: str, kernel: str, target: str | None) -> Artifact:
        return saved

    assert supply.supplier(mine) is mine


def test_devices_and_their_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        def __init__(self, ordinal: int | None) -> None:
            self.capability = {None: (9, 0), 1: (10, 0), 2: (12, 0)}[ordinal]

    monkeypatch.setattr("fp4rt.cuda.driver.context", Gpu)
    cases: list[tuple[tuple[Any, ...], tuple[str, str | None]]] = [
        ((None, "cpu"), ("reference", None)),
        ((None, "cuda:1"), ("cuda:1", "sm_100a")),
        (("cuda", "cpu"), ("cuda", "sm_90a")),
        (("emulator", "cpu"), ("emulator", "sm_100a")),
        (("emulator", "cpu", "sm_90a"), ("emulator", "sm_90a")),
    ]
    for given, wanted in cases:
        assert supply.device_and_target(*given) == wanted
    with pytest.raises(DeviceError) as stop:
        supply.device_and_target(None, "cuda:2")
    assert str(stop.value) == (
        "FP6147: GPU 2 has compute capability 12.0, for which nothing is compiled\n"
        "  help: there are kernels for sm_90a, sm_100a; device='reference' runs on the CPU"
    )
    with pytest.raises(DeviceError, match="FP6147: no kernels are made for the device 'meta'"):
        supply.device_and_target(None, "meta")


def test_a_quantizers_name_is_its_spec() -> None:
    for name in kernel_names():
        kernel = artifact(FILE, name, None).manifest.kernel
        (x, *_, q) = kernel.args
        assert name.startswith(f"{q.format.name}_{x.dtype}_") and kernel.name == name
    assert "kernel" not in spec_text("nvfp4_bf16_none") + spec_text("x") + spec_text("mxfp4_i32_none")


@pytest.mark.parametrize(
    "file, kernel, text",
    [
        ("no", "x", "there is no file of recipes 'no'; there are deepseek_experts, "),
        ("../recipes/mx_training", "fprop", "there is no file of recipes '../recipes/mx_training'; "),
        ("mx_training", "fpro", "mx_training.fp4 has no kernel fpro; did you mean `fprop`?"),
        (FILE, "nvfp4_f64_amax", "has no kernel nvfp4_f64_amax"),
    ],
)
def test_what_the_compiler_does_not_have(file: str, kernel: str, text: str) -> None:
    with pytest.raises(RequestError) as stop:
        artifact(file, kernel, None)
    assert text in str(stop.value)
