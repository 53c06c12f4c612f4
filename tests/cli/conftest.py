"""Running the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fp4cc.cli.main import main


@dataclass(frozen=True)
class Ran:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def fp4cc(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`fp4cc("check", path)` runs a command and gives its status and output."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        code = stop.value.code
        return Ran(int(code) if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return run


@pytest.fixture
def gemm(tmp_path: Path) -> Path:
    """The smallest spec, in a folder of its own."""
    path = tmp_path / "gemm.fp4"
    path.write_text(
        "kernel gemm(M, N, K) {\n"
        "    in  a : nvfp4[M, K]\n"
        "    in  b : nvfp4[N, K]\n"
        "    out c : bf16[M, N]\n"
        "    c = a @ b.T\n"
        "}\n"
    )
    return path
