"""What the passes refuse: each case is a spec, its diagnostics as a golden file beside it.

A case is lowered for sm_100a, or for the target that its first line names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fp4cc.diagnostics import DiagnosticError, render
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

CASES = sorted((Path(__file__).parent / "cases").glob("*.fp4"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_refusal(path: Path, golden: Callable[[Path, str], None]) -> None:
    text = path.read_text(encoding="utf-8")
    kernels = analyze(Source(path.name, text), None).raise_errors().kernels
    named = re.match(r"# for (sm_\w+)", text)
    with pytest.raises(DiagnosticError) as refused:
        lower(kernels[0], named.group(1) if named else "sm_100a")
    assert {d.code for d in refused.value.diagnostics} >= {path.stem.split("_")[0]}
    golden(path.with_suffix(".txt"), render(refused.value.diagnostics))


def test_an_unknown_target_is_refused() -> None:
    text = "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T }"
    kernel = analyze(Source("k.fp4", text), None).raise_errors().kernels[0]
    with pytest.raises(DiagnosticError, match="FP4012"):
        lower(kernel, "sm_120a")
