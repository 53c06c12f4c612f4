"""`fp4cc verify --order --check`: how severe a failed check of the order of accesses is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

Run = Any
SMALL = ("--at", "M=1", "--at", "N=64", "--at", "K=4096", "--delays", "0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--check race", "is not NAME=LEVEL"),
        ("--check races=off", "unknown check 'races'"),
        ("--check race=loud", "unknown level 'loud'"),
        ("--order loose", "'loose'"),
    ],
)
def test_a_level_that_there_is_not(words: str, says: str, fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("verify", gemm, *words.split())
    assert ran.status == 2
    assert says in ran.err


@pytest.mark.slow
def test_a_level_by_name(fp4cc: Run, gemm: Path) -> None:
    """Our kernels copy scale factors over those of an earlier MMA: `mma-cp`, a warning at both profiles."""
    ran = fp4cc("verify", gemm, *SMALL, "--json")
    assert ran.status == 0
    assert any(text.startswith("[mma-cp]") for text in json.loads(ran.out)["warnings"])
    assert "warning: [mma-cp]" in fp4cc("verify", gemm, *SMALL, "--order", "default").out
    assert "warning" not in fp4cc("verify", gemm, *SMALL, "--check", "mma-cp=off").out
    ran = fp4cc("verify", gemm, *SMALL, "--check", "mma-cp=fault")
    assert ran.status == 1
    assert "[mma-cp]" in ran.out
