"""One way from a request to a plan: what `explain` prints is what every other command builds."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4cc.backend.process import Compiled
from fp4cc.cli.main import cli
from fp4rt.manifest import loads
from fp4rt.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
GEMM = "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
SPECS = {
    "gemm": GEMM,
    "scheduled": GEMM
    + "schedule k on sm_100a when M <= 128 { tile 128 x 64 x 256 }\n"
    + "schedule k on sm_100a when N % 256 == 0 { stages 3 }\n",
    "batched": (
        "kernel k(L, M, N, K) { in a : mxfp8[L, M, K]; in b : mxfp8[L, N, K]; out c : f32[L, M, N]; c = a @ b.T }\n"
    ),
    "wide": (
        "kernel k(M, N, K) { in a : bf16[M, K]; in b : nvfp4[N, K]; out c : fp8_token[M, N]; c = quantize(a @ b.T) }\n"
    ),
    "elementwise": "kernel k(M, N) { in x : bf16[M, N]; out y : f32[M]; y = max(abs(x), over = N) }\n",
}
DIMS = {name: re.findall(r"\w+", text[text.index("(") + 1 : text.index(")")]) for name, text in SPECS.items()}
SIZES = {"L": [1, 2, 9], "M": [1, 16, 128, 129, 4096], "N": [8, 64, 200, 512, 7168], "K": [128, 2048, 16384]}


@pytest.fixture(scope="module", autouse=True)
def _no_backend() -> Iterator[None]:
    """Kernel files go no further: the CuTe DSL is not run."""

    def compile_all(texts: list[str], *_: object) -> dict[str, Compiled]:
        return {text: Compiled("", b"") for text in texts}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("fp4cc.driver.build"), "_compile_all", compile_all)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specs as files."""
    made = tmp_path_factory.mktemp("specs")
    for name, text in SPECS.items():
        (made / f"{name}.fp4").write_text(text)
    return made


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, list[str], dict[str, int]]:
    """A spec, a target, some `--set`, and a size in a call for each other dim."""
    name = draw(st.sampled_from(sorted(SPECS)))
    target = draw(st.sampled_from(["sm_100a", "sm_90a"]))
    sizes = {dim: draw(st.sampled_from(SIZES[dim])) for dim in DIMS[name]}
    fixed = draw(st.lists(st.sampled_from(DIMS[name]), unique=True))
    options = ["--target", target, *(word for dim in fixed for word in ("--set", f"{dim}={sizes[dim]}"))]
    return name, target, options, {dim: size for dim, size in sizes.items() if dim not in fixed}


def _ran(*arguments: object) -> Any:
    ran = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert ran.exit_code == 0, (arguments, ran.output, ran.exception)
    return ran


@given(requests())
@settings(max_examples=8, deadline=None, derandomize=True)
def test_explain_prints_the_plan_that_compile_builds(
    folder: Path, asked: tuple[str, str, list[str], dict[str, int]]
) -> None:
    name, _, options, rest = asked
    spec, out = folder / f"{name}.fp4", folder / "out"
    at = [word for dim, size in rest.items() for word in ("--at", f"{dim}={size}")]
    explained = json.loads(_ran("explain", spec, "--no-compile", "--json", *options, *at).stdout)["kernels"]
    _ran("compile", spec, "-o", out, "--no-cache", "--keep-python", *options)
    launches = resolve(loads((out / "k.json").read_text()), explained[0]["sizes"]).launches
    python = _ran("emit", spec, "--stage", "python", "--plans", 6, *options).stdout
    for launch, report in zip(launches, explained, strict=True):
        resources, decided = report["resources"], {d["what"]: d["chosen"] for d in report["decisions"]}
        assert launch.block[0] == resources["threads"]
        assert launch.smem == resources["shared_memory"]["bytes"]
        assert math.prod(launch.cluster) == math.prod(resources.get("cluster", [1]))
        text = (out / f"{launch.module}.py").read_text()
        assert text.strip() in python
        if "cluster" in decided:
            constants = _constants(text)
            assert decided["tile"] == " x ".join(str(constants[f"TILE_{x}"]) for x in "MNK")
            assert decided["stages"] == str(constants["STAGES"])
    if not rest:
        assert "unknown" not in json.dumps(explained)


def _constants(text: str) -> dict[str, object]:
    """The numbers that a kernel file assigns at its top."""
    found: dict[str, object] = {}
    for node in ast.parse(text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                found[name] = value
            case _:
                pass
    return found


def test_fixed_sizes_are_explained_as_they_are_built(folder: Path) -> None:
    """The case of a decode GEMM: 16 rows lie along the columns of a tile, whose K is shared so that SMs have work."""
    options = ("--no-compile", "--set", "M=16", "--set", "N=7168", "--set", "K=16384")
    text = _ran("explain", folder / "gemm.fp4", *options).stdout
    assert "tile            256 x 32 x 256" in text
    assert "split of K      2 parts" in text
    assert "unknown" not in text
    assert "4096" not in text[text.index("choices") : text.index("cluster")]


def test_sizes_of_a_call_pick_a_plan_and_change_none(folder: Path) -> None:
    """`--at` describes a call of the kernel for any size: a condition, of a block or the compiler's, picks the plan."""

    def decisions(name: str, *options: str) -> Any:
        ran = _ran("explain", folder / f"{name}.fp4", "--no-compile", "--json", *options)
        return json.loads(ran.stdout)["kernels"][0]["decisions"]

    assert decisions("gemm", "--plans", "1", "--at", "M=16") == decisions("gemm", "--plans", "1")
    tiles = {
        (
            size,
            next(d["chosen"] for d in decisions("gemm", "--at", f"M={size}", "--at", "N=4096") if d["what"] == "tile"),
        )
        for size in (16, 700, 16384)
    }
    assert len({tile for _, tile in tiles}) > 1
    small = {d["what"]: d["chosen"] for d in decisions("scheduled", "--at", "M=16")}
    assert small["tile"] == "128 x 64 x 256"
    assert {d["what"]: d["chosen"] for d in decisions("scheduled")}["stages"] == "3"


def test_one_function_lowers_for_every_command() -> None:
    """`fp4cc.passes.lower` is called in one place of the driver, and by no command."""
    callers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("driver", "cli", "explain")
        for path in sorted((ROOT / "fp4cc" / folder).rglob("*.py"))
        if re.search(r"(?<![\w.])lower\(", path.read_text())
    ]
    assert callers == ["fp4cc/driver/stages.py"]
