"""Specs in files of any name."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from fp4cc.cli.main import cli


def test_a_file_need_not_end_in_fp4(tmp_path: Path) -> None:
    text = "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
    spec = tmp_path / "spec.txt"
    spec.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["check", str(spec)])
    assert (result.exit_code, "no errors" in result.output) == (0, True)
