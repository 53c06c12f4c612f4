"""What people write who come from Python, PyTorch, Triton or CUDA: one error each, at its place, with what to write."""

from __future__ import annotations

import pytest

from fp4cc.sema import analyze
from fp4cc.source import Source

HEAD = "kernel k(M, N) {\n in x : bf16[M, N]; in r : bf16[N]\n out c : bf16[M, N]\n "
#: Statement, code, place, a part of the help.
STATEMENTS = [
    ("c = x[:, 0]", "FP1001", ":", "not indexed"),
    ("c = x[0]", "FP2023", "x[0]", ""),
    ("c = (bf16) x", "FP1001", "x", "write `bf16(x)`"),
    ("c = (f16) max(x, r)", "FP1001", "max", "write `f16(max(...))`"),
    ("c = 1. * x", "FP1001", "*", "write `1.0`"),
    ("c = x + 2.", "FP1001", "", "write `2.0`"),
    ("import torch\n c = x", "FP1015", "import", "outside of kernels"),
    ("c = sin(x)", "FP2003", "sin", "no trigonometric functions"),
    ("c = where(isinf(x), 0, x)", "FP2003", "isinf", "where(abs(x) > 3.4028235e38, 0, x)"),
    ("c = int(x)", "FP2003", "int", "no rounding"),
    ("c = nan", "FP2001", "nan", "isnan(x)"),
    ("c = x * ceildiv(M, 2)", "FP2003", "ceildiv", "in the head"),
    ("f = lambda v: v\n c = f(x)", "FP1001", "v", "a function is one expression"),
    ("input a : f32[M]\n c = x", "FP1001", "a", "write `in a : f32[M]`"),
    ("in a, b : f32[M]\n c = x", "FP1001", ",", "declare each by itself: `in a : ...; in ...`"),
    ("in a : f32(M)\n c = x", "FP1001", "(", "square brackets, after a type: `f32[M, K]`"),
    ("in a : tensor<f32>[M]\n c = x", "FP1001", "<", "a type is a word"),
    ("param a = 1.0\n c = x", "FP1001", "=", "`param a : f32 = ...`"),
]
SPECS = [
    ("kernel k(M) where M % 2 = 0 { in x : f32[M]; out c : f32[M]; c = x }", "FP1001", "=", "compare with `==`"),
    ("kernel k(M):\n    in x : f32[M]\n    out c : f32[M]\n    c = x", "FP1001", "]", "`kernel NAME(M, N, K) { ... }`"),
]


@pytest.mark.parametrize(("text", "code", "place", "help"), [*((f"{HEAD}{s}\n}}", *r) for s, *r in STATEMENTS), *SPECS])
def test_a_habit_is_one_error_that_says_what_to_write(text: str, code: str, place: str, help: str) -> None:
    (found,) = analyze(Source("s.fp4", text)).diagnostics
    assert (found.code, found.span.text if found.span else None) == (code, place)
    assert help in "\n".join(found.help)


def test_a_list_is_not_said_to_be_indexed() -> None:
    (found,) = analyze(Source("s.fp4", f"{HEAD}c = [x]\n}}")).diagnostics
    assert found.code == "FP1001" and "indexed" not in "\n".join(found.help)


def test_what_follows_a_head_without_a_brace_ends_at_the_next_item() -> None:
    """The second kernel is judged: its mistake is found."""
    text = "kernel k(M):\n    in x : f32[M]\n    y = x\n\nkernel l(M) { in x : f32[M]; out y : f32[M]; y = z }\n"
    assert [d.code for d in analyze(Source("s.fp4", text)).diagnostics] == ["FP1001", "FP2001"]
