"""Building through the cache: right, reproducible, and quick the second time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fp4cc
from fp4cc.backend import BackendError, Compiled
from fp4cc.cache import Store
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver import Request, RequestError, build, read_spec
from fp4cc.driver.build import request_key

GEMM = """\
use "formats.fp4"
kernel gemm(M, N, K) {
    in  a : mine[M, K]
    in  b : mine[N, K]
    out c : bf16[M, N]
    c = a @ b.T
}
"""
FORMATS = "format mine extends nvfp4 { layout blocked_128x4 }\n"


#: With these the rows alone are open: a kernel of three plans.
DIMS = ("--set", "N=4096", "--set", "K=4096")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "formats.fp4").write_text(FORMATS)
    path = tmp_path / "gemm.fp4"
    path.write_text(GEMM)
    return path


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernel texts that reach the DSL, which is replaced by something quick."""
    seen: list[str] = []

    def compiled(self: object, kernel: str, arch: str, **_: object) -> Compiled:
        seen.append(kernel)
        return Compiled(f"// {arch} {len(kernel)}\n", kernel.encode())

    monkeypatch.setattr("fp4cc.backend.process._kept", None)
    monkeypatch.setattr("fp4cc.backend.process.Worker.__init__", lambda self: None)
    monkeypatch.setattr("fp4cc.backend.process.Worker.close", lambda self: None)
    monkeypatch.setattr("fp4cc.backend.process.Worker.compile", compiled)
    return seen


def test_the_second_build_comes_from_the_cache(spec: Path, tmp_path: Path, compilations: list[str]) -> None:
    store = Store(tmp_path / "cache")
    first = build(Request(read_spec(spec), plans=1), store=store)
    second = build(Request(read_spec(spec), plans=1), store=store)
    assert (first.cached, second.cached) == (False, True)
    assert second.kernels == first.kernels
    assert len(compilations) == 1


def test_a_change_of_a_used_file_builds_again(spec: Path, tmp_path: Path, compilations: list[str]) -> None:
    store = Store(tmp_path / "cache")
    build(Request(read_spec(spec), plans=1), store=store)
    (tmp_path / "formats.fp4").write_text(FORMATS.replace("nvfp4", "mxfp4"))
    assert not build(Request(read_spec(spec), plans=1), store=store).cached
    assert len(compilations) == 2


def test_a_comment_in_a_used_file_lowers_again_but_compiles_nothing(
    spec: Path, tmp_path: Path, compilations: list[str]
) -> None:
    store = Store(tmp_path / "cache")
    build(Request(read_spec(spec)), store=store)
    compiled = len(compilations)
    (tmp_path / "formats.fp4").write_text(FORMATS + "# a remark\n")
    assert not build(Request(read_spec(spec)), store=store).cached
    assert len(compilations) == compiled


def test_every_part_of_a_request_is_in_its_key(spec: Path, tmp_path: Path) -> None:
    request = Request(read_spec(spec))
    variations = [
        request,
        replace(request, target="sm_90a"),
        replace(request, dims={"N": 4096}),
        replace(request, kernel="gemm"),
        replace(request, plans=1),
        replace(request, many=True),
        replace(request, only={"gemm": (0,)}),
        replace(request, only={"gemm": (0, 1)}),
        replace(request, spec=replace(request.spec, text=request.spec.text + " ")),
        replace(request, spec=replace(request.spec, name="other.fp4")),
    ]
    keys = {request_key(r) for r in variations}
    assert None not in keys
    assert len(keys) == len(variations)


def test_the_folder_is_not_in_the_key_nor_in_the_result(spec: Path, tmp_path: Path, compilations: list[str]) -> None:
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    for name in ("gemm.fp4", "formats.fp4"):
        shutil.copy(tmp_path / name, elsewhere / name)
    here, there = (Request(read_spec(path)) for path in (spec, elsewhere / "gemm.fp4"))
    assert request_key(here) == request_key(there)
    assert build(here, use_cache=False).kernels == build(there, use_cache=False).kernels


def test_a_damaged_entry_is_built_again(spec: Path, tmp_path: Path, compilations: list[str]) -> None:
    store = Store(tmp_path / "cache")
    request = Request(read_spec(spec))
    first = build(request, store=store)
    for path in (tmp_path / "cache").rglob("*.cubin"):
        path.write_bytes(b"damaged")
    again = build(request, store=store)
    assert not again.cached
    assert again.kernels == first.kernels


def test_a_cache_that_cannot_be_written_does_not_fail_the_build(
    spec: Path, tmp_path: Path, compilations: list[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="cannot be written"):
        built = build(Request(read_spec(spec)), store=Store(tmp_path / "file"))
    assert [k.name for k in built.kernels] == ["gemm"]


def test_plans_share_the_workers_and_so_their_imports_of_the_dsl(
    spec: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker imports the DSL once; there is one a core at most, however many plans a kernel has."""
    made: list[int] = []
    monkeypatch.setattr("fp4cc.backend.process.Worker.__init__", lambda self: made.append(1))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    (gemm,) = build(Request(read_spec(spec)), use_cache=False).kernels
    texts = {name for name in gemm.files if name.endswith(".cubin")}
    assert len(texts) == len(compilations) > len(made)
    assert len(made) <= 2


def test_a_crash_of_the_dsl_is_a_diagnostic(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: object, kernel: str, arch: str, **_: object) -> Compiled:
        raise BackendError("the CuTe DSL's process was ended by SIGABRT", "LLVM ERROR: no", kernel)

    monkeypatch.setattr("fp4cc.backend.process.Worker.compile", crash)
    with pytest.raises(DiagnosticError) as error:
        build(Request(read_spec(spec)), use_cache=False)
    (found,) = error.value.diagnostics
    assert found.code == "FP9002"
    assert "SIGABRT" in found.title
    assert "LLVM ERROR: no" in found.notes[0]


def test_compile_gives_an_artifact_and_asks_which_of_several(spec: Path, compilations: list[str]) -> None:
    artifact = fp4cc.compile(spec, dims={"N": 4096}, cache=False)
    assert artifact.manifest.name == "gemm"
    assert [d.value for d in artifact.manifest.kernel.dims] == [None, 4096, None]
    assert "gemm.py" in artifact.extras
    two = (
        FORMATS + GEMM.replace('use "formats.fp4"\n', "") + GEMM.replace('use "formats.fp4"\n', "").replace("gemm", "h")
    )
    with pytest.raises(RequestError, match=r"gemm, h: choose"):
        fp4cc.compile(two, cache=False)
    assert fp4cc.compile(two, kernel="h", cache=False).manifest.name == "h"
    with pytest.raises(RequestError, match=r"no kernel x"):
        fp4cc.compile(two, kernel="x", cache=False)


def test_the_same_spec_gives_the_same_bytes_in_another_process(spec: Path, tmp_path: Path) -> None:
    """With the real DSL, another hash seed, another folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("gemm.fp4", "formats.fp4"):
        shutil.copy(tmp_path / name, elsewhere / name)
    outputs: list[dict[str, bytes]] = []
    plans = ("--plans", "2", *DIMS)
    for folder, seed in ((tmp_path, "1"), (elsewhere, "2")):
        subprocess.run(
            [sys.executable, "-m", "fp4cc", "compile", "gemm.fp4", "-o", "out", "--no-cache", "--keep-python", *plans],
            cwd=folder, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True,
        )  # fmt: skip
        outputs.append({p.name: p.read_bytes() for p in (folder / "out").iterdir()})
    assert outputs[0] == outputs[1]
    stems = ("gemm", "gemm_v1")
    assert set(outputs[0]) == {"gemm.json", *(f"{s}.{end}" for s in stems for end in ("cubin", "ptx", "py"))}
    assert b"elsewhere" not in b"".join(outputs[1].values())
    assert json.loads(outputs[0]["gemm.json"])["toolchain"]["nvidia-cutlass-dsl"]


def test_a_cached_compile_imports_neither_parser_nor_dsl_nor_numpy(spec: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from fp4cc.cli.main import main\n"
        "try: main(['compile', sys.argv[1], '-o', sys.argv[2], '--plans', '1'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "print([m for m in ('lark', 'jinja2', 'numpy', 'cutlass', 'filelock', 'fp4rt') if m in sys.modules])\n"
    )
    env = {**os.environ, "FP4CC_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(spec), str(tmp_path / "out")]
    subprocess.run(command, env=env, check=True, capture_output=True)
    second = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert "(cached)" in second.stderr
    assert second.stdout.splitlines()[-1] == "[]"


def test_two_kernels_that_would_write_the_same_file_are_refused(compilations: list[str]) -> None:
    text = (
        FORMATS
        + GEMM.replace('use "formats.fp4"\n', "")
        + GEMM.replace('use "formats.fp4"\n', "").replace("gemm", "gemm_v1")
        + "schedule gemm on sm_100a when M <= 128 { tile 128 x 64 x 256 }\n"
    )
    with pytest.raises(DiagnosticError, match=r"FP2033.*gemm_v1\.cubin"):
        build(Request(read_spec(text)), use_cache=False)
    assert build(Request(read_spec(text), kernel="gemm_v1"), use_cache=False).kernels[0].name == "gemm_v1"
