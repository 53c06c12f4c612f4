"""`fp4cc check --chain`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"


def test_the_links_of_one_file(fp4cc: Run) -> None:
    ran = fp4cc(
        "check", RECIPES / "gated_mlp.fp4", "--chain", "quantize_input.q=gate_up.x", "--chain", "gate_up.q=down.x"
    )
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        f"{RECIPES / 'gated_mlp.fp4'}: 3 kernels, no errors\n"
        "quantize_input.q : nvfp4[M, K]  =  gate_up.x : nvfp4[M, K]\n"
        "gate_up.q : nvfp4[M, F]  =  down.x : nvfp4[M, K]\n"
        "    gate_up.M is quantize_input.M\n"
        "    gate_up.K is quantize_input.K\n"
        "    down.M is quantize_input.M\n"
        "    down.K is gate_up.N / 2\n"
        "chain: 2 links, the types are equal\n"
    )


def test_kernels_of_two_files_with_one_name(fp4cc: Run) -> None:
    first, second = RECIPES / "ptq_linear.fp4", RECIPES / "gated_mlp.fp4"
    link = f"{first}:quantize_input.q={second}:gate_up.x"
    answer = json.loads(
        fp4cc("check", "--json", "--chain", link, "--chain", f"{second}:quantize_input.q={first}:linear.x").out
    )
    assert answer["ok"]
    assert [found["producer"] for found in answer["chain"]["links"]] == [
        f"{first}:quantize_input.q",
        f"{second}:quantize_input.q",
    ]
    assert answer["chain"]["links"][0]["axes"] == [
        {"producer": "M", "consumer": "M"},
        {"producer": "K", "consumer": "K"},
    ]
    assert answer["chain"]["sizes"]["linear.K"] == f"{second}:quantize_input.K"


def test_a_broken_link_has_both_places(fp4cc: Run) -> None:
    link = f"{RECIPES / 'gated_mlp.fp4'}:gate_up.q={RECIPES / 'mx_training.fp4'}:fprop.x"
    answer = json.loads(fp4cc("check", "--chain", link, "--json").out)
    assert not answer["ok"]
    assert [d["code"] for d in answer["diagnostics"]] == ["FP3501"]
    for found in answer["diagnostics"]:
        assert [Path(label["file"]).name for label in found["labels"]] == ["mx_training.fp4", "gated_mlp.fp4"]


def test_sizes_of_the_spec_can_be_set(fp4cc: Run) -> None:
    ran = fp4cc("check", RECIPES / "gated_mlp.fp4", "--no-target", "--set", "N=512", "--chain", "gate_up.q=down.x")
    assert "    down.K is 256\n" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SPEC", "--chain", "gate_up=down.x"], "is not [FILE:]KERNEL.OUTPUT=[FILE:]KERNEL.INPUT"),
        (["SPEC", "--chain", "gateup.q=down.x"], "did you mean `gate_up`?"),
        (["SPEC", "--chain", "gate_up.z=down.x"], "arguments: x, w, ts, q"),
        (["SPEC", "--chain", "gate_up.x=down.x"], "this side of a link is an output"),
        (["SPEC", "--chain", "gate_up.q=down.y"], "this side of a link is an input"),
        (["--chain", "gate_up.q=down.x"], "names no file"),
        (["--set", "N=2", "--chain", "SPEC:gate_up.q=SPEC:down.x"], "none is given"),
        (["-", "--chain", "gate_up.q=down.x"], "--chain reads files"),
    ],
)
def test_links_that_do_not_exist(fp4cc: Run, arguments: list[str], message: str) -> None:
    spec = str(RECIPES / "gated_mlp.fp4")
    ran = fp4cc("check", *[a.replace("SPEC", spec) for a in arguments])
    assert ran.status == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_a_file_that_is_not_there(fp4cc: Run) -> None:
    ran = fp4cc("check", "--chain", "nowhere.fp4:a.q=nowhere.fp4:b.x")
    assert ran.status == 1
    assert "error[FP6203]: nowhere.fp4" in ran.err
