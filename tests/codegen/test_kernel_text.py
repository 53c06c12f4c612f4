"""The emitted kernel file as text: valid, lint-free, deterministic, and with only what this kernel needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

#: What a careful reader's linter looks for: errors, unused and undefined names, import order, likely bugs.
RULES = "E4,E7,E9,F,I,W,B006,B007,B018"

SCHEDULES = [
    "tile 128 x 64 x 256; cluster 1 x 1",
    "tile 128 x 128 x 256; cluster 2 x 2; accumulators 1",
    "tile 256 x 192 x 256; cluster 2 x 1; raster along_m",
    "tile 256 x 256 x 256; cluster 4 x 2; raster along_n",
]


def _text(schedule: str = "", *, batch: bool = False, dims: str = "M, N, K") -> str:
    lead = "L, " if batch else ""
    args = f"in a : nvfp4[{lead}M, K]; in b : nvfp4[{lead}N, K]; out c : bf16[{lead}M, N]"
    block = f"schedule gemm on sm_100a {{ {schedule} }}\n" if schedule else ""
    spec = f"kernel gemm({lead}{dims}) {{ {args}; c = a @ b.T }}\n{block}"
    kernel = analyze(Source("gemm.fp4", spec), None).raise_errors().kernels[0]
    return emit(lower(kernel, "sm_100a"))


HOPPER = {
    "both dequantized": "in a : nvfp4[M, K]; in b : mxfp6[N, K]; out c : bf16[M, N]; c = a @ b.T",
    "one dequantized": "in a : bf16[L, M, K]; in b : nvfp4[N, K]; out c : bf16[L, M, N]; c = a @ b.T",
    "by layout": "in a : f16[M, K]; in b : lines[N, K]; out c : bf16[M, N]; c = a @ b.T",
    "two": "in a : nvfp4[M, K]; in b : nvfp4[N, K]; in d : bf16[N, K]; out c : bf16[M, N]; c = (a @ b.T) * (a @ d.T)",
    "halves": "in a : bf16[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]\n"
    "g, u = unzip(a @ b.T, N -> F, group = 128); c = g * u",
    "none": "in a : f16[L, M, K]; in b : f16[L, N, K]; out c : f32[L, M, N]; c = a @ b.T",
}


@pytest.mark.parametrize("body", HOPPER.values(), ids=HOPPER.keys())
def test_hopper_is_free_of_lint(tmp_path: Path, body: str) -> None:
    lines = "format lines extends nvfp4 { layout linear }\n"
    dims = f"{'L, ' if 'L' in body else ''}M, N, K{', F = N / 2' if 'F' in body else ''}"
    spec = f"{lines}kernel gemm({dims}) {{ {body} }}"
    kernel = analyze(Source("gemm.fp4", spec), None).raise_errors().kernels[0]
    _lint(tmp_path / "gemm.py", emit(lower(kernel, "sm_90a")))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_is_free_of_lint(tmp_path: Path, schedule: str, batch: bool) -> None:
    _lint(tmp_path / "gemm.py", _text(schedule, batch=batch))


@pytest.mark.parametrize(("x", "w"), [("nvfp4", "odd"), ("bf16", "odd"), ("e4m3", "mxfp6")])
def test_converter_warps_are_free_of_lint(tmp_path: Path, x: str, w: str) -> None:
    """Re-laid, dequantized, and with nothing left for TMA; batched, with a layout that counts them."""
    spec = (
        "layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order batch, k, row }\n"
        "format odd extends nvfp4 { layout odd }\n"
        f"kernel gemm(L, M, N, K) {{ in x : {x}[M, K]; in w : {w}[L, N, K]; out y : bf16[L, M, N]; y = x @ w.T }}\n"
    )
    kernel = analyze(Source("gemm.fp4", spec), None).raise_errors().kernels[0]
    _lint(tmp_path / "gemm.py", emit(lower(kernel, "sm_100a")))


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize(("x", "w"), [("ds_act", "ds_weight"), ("fp8_token", "fp8_token"), ("ds_act", "fp8_token")])
def test_promotion_is_free_of_lint(tmp_path: Path, x: str, w: str, target: str) -> None:
    """Of the same template as other products; with factors of blocks and of columns, batched and halved."""
    spec = (
        f"kernel gemm(L, M, N, K, F = N / 2) {{ in x : {x}[L, M, K]; in w : {w}[L, N, K]; out y : bf16[L, M, F]\n"
        "g, u = unzip(x @ w.T, N -> F, group = 16); y = g * u }\n"
    )
    kernel = analyze(Source("gemm.fp4", spec), None).raise_errors().kernels[0]
    text = emit(lower(kernel, target))
    assert "promote" in text
    _lint(tmp_path / "gemm.py", text)


def _lint(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--line-length", "120",
               "--target-version", "py311", "--select", RULES, "--output-format", "concise", str(path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_same_spec_gives_the_same_text(schedule: str) -> None:
    assert _text(schedule) == _text(schedule)


def test_static_sizes_are_numbers_not_parameters() -> None:
    tree = ast.parse(_text(dims="M = 256, N = 512, K = 1024"))
    (kernel,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "gemm")
    names = {argument.arg for argument in kernel.args.args}
    assert not names & {"m_size", "n_size", "k_tiles", "tiles_m", "tiles_n", "tiles"}


def test_a_kernel_without_clusters_has_no_word_of_them() -> None:
    text = _text(SCHEDULES[0])
    assert "CLUSTER" not in text
    assert "multicast_mask" not in text
    assert "barrier_cluster" not in text


def test_stores_that_tma_can_always_do_have_no_other_way() -> None:
    """Rows of a bf16 result with N % 8 == 0 start on 16 bytes, so there is no flag and no plain store."""
    assert "c_by_tma" in _text()
    assert "c_by_tma" not in _text(dims="M, N = 512, K")


def test_the_header_shows_the_spec() -> None:
    docstring = ast.get_docstring(ast.parse(_text())) or ""
    assert "c = a @ b.T" in docstring
