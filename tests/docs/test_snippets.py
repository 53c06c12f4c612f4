"""The code that docs and help show: Python blocks run, command lines are ones that the commands take."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fp4cc
import fp4rt
from fp4cc.cli import main
from fp4cc.driver import Request, read_spec
from fp4cc.driver.interpret import interpreted
from fp4rt import io

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "examples" / "nvfp4_gemm.fp4"
EMPTY_KERNEL = """\
.version 8.8
.target sm_100a
.address_size 64
.visible .entry kernel_name(.param .align 128 .b8 map[128], .param .u64 a, .param .u32 n) { ret; }
"""


def _blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def _run(code: str, names: dict[str, Any]) -> None:
    exec(code, names)  # noqa: S102  # what the page tells its reader to type


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the snippets take as given, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((128, 256), np.float32), rng.standard_normal((192, 256), np.float32)
    return {"x": x, "w": w, "c": np.empty((128, 192), np.uint16), "path": "out/nvfp4_gemm.json"}


def test_the_python_of_runtime_md_runs(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    fp4cc.compile(SPEC).save("out")
    load, call, bind, lists, compare = _blocks("docs/runtime.md")
    _run(load, names)
    assert names["outputs"]["c"].shape == (128, 192)
    names["w"] = np.empty(names["kernel"].workspace_size(M=128, N=192, K=256), np.uint8)
    _run(call + bind, names)
    assert (names["c"] == names["outputs"]["c"].view(np.uint16)).all()
    assert "fp4cc.compile" in lists  # of a spec of its reader's: tests/fp4rt/test_many.py runs such calls
    _run(compare, names)
    assert capsys.readouterr().out == re.findall(r"print\(difference\)\s+# (.+)", compare)[0] + "\n"


def test_the_python_of_emulator_md_runs() -> None:
    (code,) = _blocks("docs/emulator.md")
    names: dict[str, Any] = {"data": np.arange(1 << 18, dtype=np.uint32), "ptx_text": EMPTY_KERNEL}
    _run(code.replace("fp4emu.TensorMap(...)", "bytes(128)"), names)
    assert names["gpu"].read(names["a"], 1 << 20) == names["data"].tobytes()


def test_the_python_of_checkpoints_md_runs(names: dict[str, Any]) -> None:
    (code,) = _blocks("docs/checkpoints.md")
    weight = fp4rt.quantize(names["w"], "nvfp4")
    prefix = "model.layers.0.mlp.up_proj"
    Path("model").mkdir()
    io.save_checkpoint("model/model.safetensors", io.to_modelopt(io.Linear(weight, np.float32(0.01)), prefix))
    text = SPEC.read_text().replace("in  a :", "in  x :").replace("in  b :", "in  w :").replace("out c :", "out y :")
    text = text.replace("c = a @ b.T", "y = x @ w.T")
    names["kernel"] = interpreted(Request(read_spec(text))).load_kernel("reference")
    names["activations"] = names["x"]
    _run(code, names)
    assert names["y"].shape == (128, 192)
    assert Path("out.safetensors").is_file()


def _help_lines() -> list[str]:
    """Every command line that some help shows."""
    pages = [main.cli.epilog or ""]
    pages += [import_module(f"fp4cc.cli.commands.{name}").command.epilog or "" for name in main.COMMANDS]
    shown = [line.strip() for page in pages for line in page.splitlines() if re.match(r"\s+(.*\| )?fp4cc [a-z]", line)]
    lines = (re.sub(r"^(?:.*\| )?(fp4cc \w+) +", r"\1 ", line) for line in shown)
    return [re.split(r" {3,}", line)[0] for line in lines]  # then comes what it does


README = re.findall(r"`(fp4cc [a-z]+ [^`|\\\n]*\.fp4[^`\n]*)`", (ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", [*_help_lines(), *README])
def test_a_command_line_that_is_shown_is_one_that_is_taken(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").mkdir()
    for file in ("gemm", "old", "new", "mlp", "act", "mine", "examples/nvfp4_gemm"):
        Path(f"{file}.fp4").write_text(SPEC.read_text())
    np.save("a.npy", np.zeros(1))
    np.savez("b.npz", codes=np.zeros(1))
    _, name, *options = shlex.split(line)
    import_module(f"fp4cc.cli.commands.{name}").command.make_context(name, options)  # raises what the user would see


def test_help_shows_examples_for_every_command() -> None:
    shown = {line.split()[1] for line in _help_lines()}
    assert set(main.COMMANDS) - shown <= {"doctor"}
