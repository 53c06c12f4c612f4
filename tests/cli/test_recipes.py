"""`fp4cc recipes`: the list, and folders of artifacts that fp4rt reads without a compiler."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fp4cc import supply as compiler
from fp4rt import supply
from fp4rt.quantizing import kernel_names
from fp4rt.recipes import RECIPES, kernels_of

Run = Callable[..., Any]


def test_the_list_has_every_recipe(fp4cc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # a line a recipe
    ran = fp4cc("recipes", "list")
    assert ran.status == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == [*RECIPES, "quantizers"]
    found = json.loads(fp4cc("recipes", "list", "--json").out)["recipes"]
    assert {r["name"]: r["kernels"] for r in found} == {r.name: r.kernels for r in RECIPES.values()}


def test_a_folder_has_every_kernel_of_what_was_named(
    fp4cc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, plans = compiler.artifact, set[int]()

    def typed(file: str, kernel: str, target: str, **options: int) -> Any:
        assert target == "sm_90a"
        plans.add(options["plans"])
        return real(file, kernel, None)

    monkeypatch.setattr(compiler, "artifact", typed)
    ran = fp4cc("recipes", "build", "-o", tmp_path, "--target", "sm_90a", "--plans", "2", "--json")
    written = json.loads(ran.out)["artifacts"]
    wanted = {f"{file}/{kernel}" for file, kernel in kernels_of(RECIPES.values())}
    wanted |= {f"quantizers/{name}" for name in kernel_names()}
    assert {str(Path(p).relative_to(tmp_path / "sm_90a").with_suffix("")) for p in written} == wanted
    assert plans == {2}
    ran = fp4cc("recipes", "build", "w4a8", "-o", tmp_path / "one", "--target", "sm_90a")
    assert len(ran.out.splitlines()) == 4


def test_an_unknown_recipe_is_named(fp4cc: Run, tmp_path: Path) -> None:
    ran = fp4cc("recipes", "build", "nvpf4", "-o", tmp_path)
    assert ran.status == 1
    assert ran.err.startswith("error[FP6142]: no recipe is called 'nvpf4'\n  = help: did you mean 'nvfp4'? one of")


@pytest.mark.slow
def test_a_built_folder_is_compiled_code(fp4cc: Run, tmp_path: Path) -> None:
    assert fp4cc("recipes", "build", "mxfp8", "-o", tmp_path, "--target", "sm_90a", "--plans", "1").status == 0
    artifact = supply.supplier(tmp_path)("linear_layers", "mxfp8", "sm_90a")
    assert artifact.cubin().startswith(b"\x7fELF")
    assert sorted(p.name for p in (tmp_path / "sm_90a" / "linear_layers").glob("mxfp8*")) == [
        "mxfp8.cubin", "mxfp8.json", "mxfp8.ptx", "mxfp8_partial.cubin", "mxfp8_partial.json", "mxfp8_partial.ptx",
    ]  # fmt: skip
