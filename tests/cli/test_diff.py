"""`fp4cc diff`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def faster(gemm: Path) -> Path:
    path = gemm.with_name("faster.fp4")
    path.write_text(gemm.read_text() + "schedule gemm on sm_100a { tile 128 x 64 x 256 }\n")
    return path


@pytest.fixture
def other(gemm: Path) -> Path:
    path = gemm.with_name("other.fp4")
    path.write_text(gemm.read_text().replace("c = a @ b.T", "c = relu(a @ b.T)"))
    return path


def test_the_same(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("diff", gemm, gemm, "--exit-code")
    assert (ran.status, ran.out, ran.err) == (0, "gemm: the same kernel\n", "")


def test_only_the_schedule(fp4cc: Run, gemm: Path, faster: Path) -> None:
    ran = fp4cc("diff", gemm, faster)
    assert ran.status == 0
    assert ran.out == (
        "gemm: only the schedule differs\n"
        "  schedule: a new schedule for sm_100a\n"
        f"    + {faster}:7: schedule gemm on sm_100a {{ tile 128 x 64 x 256 }}\n"
    )
    assert fp4cc("diff", gemm, faster, "--exit-code").status == 1
    assert fp4cc("diff", gemm, faster, "--exit-code", "--ignore", "schedule").status == 0


def test_numerics_quote_both_lines(fp4cc: Run, gemm: Path, other: Path) -> None:
    ran = fp4cc("diff", gemm, other)
    assert ran.out == (
        "gemm: numerics differs\n"
        "  numerics: `mul` became `relu`\n"
        f"    - {gemm}:5: c = a @ b.T\n"
        f"    + {other}:5: c = relu(a @ b.T)\n"
    )


def test_json(fp4cc: Run, gemm: Path, other: Path) -> None:
    answer = json.loads(fp4cc("diff", gemm, other, "--json").out)
    assert answer == {
        "ok": True,
        "same": False,
        "changes": ["numerics"],
        "kernels": [
            {
                "before": "gemm",
                "after": "gemm",
                "changes": ["numerics"],
                "details": [
                    {
                        "aspect": "numerics",
                        "what": "`mul` became `relu`",
                        "before": {"file": str(gemm), "line": 5, "column": 9, "text": "c = a @ b.T"},
                        "after": {"file": str(other), "line": 5, "column": 9, "text": "c = relu(a @ b.T)"},
                    }
                ],
            }
        ],
    }


def test_wrong_specs_and_command_lines(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.fp4"
    wrong.write_text("kernel k(M) { in x : f33[M]; out y : f32[M]; y = x }\n")
    ran = fp4cc("diff", gemm, wrong)
    assert ran.status == 1
    assert "error[FP2019]" in ran.err
    assert fp4cc("diff", gemm, gemm, "--kernel", "gem").status == 2
    assert fp4cc("diff", "-", "-").status == 2
    assert fp4cc("diff", gemm).status == 2
