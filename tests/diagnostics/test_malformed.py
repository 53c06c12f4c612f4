"""Damaged specs give coded errors with places: never a traceback, never silence about damage that matters."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from fp4cc.diagnostics import CODES, DiagnosticError, render, to_json
from fp4cc.frontend.program import decode
from fp4cc.ir.serialize import to_json as kernel_json
from fp4cc.ir.verify import verify
from fp4cc.sema import Checked, analyze
from fp4cc.source import Source

from ..damage import ODD, TOKEN, WORDS, damaged

ROOT = Path(__file__).parents[2]
LANGUAGE = Path(__file__).parent.parent / "sema" / "specs"
SPECS = [p.read_text(encoding="utf-8") for p in sorted([*(ROOT / "examples").glob("*.fp4"), *LANGUAGE.glob("*.fp4")])]


def judge(text: str) -> Checked:
    """Check a text; whatever is found must be a coded error with a place, and whatever is accepted must be sound."""
    checked = analyze(Source("spec.fp4", text))
    for d in checked.diagnostics:
        assert d.code in CODES and d.span is not None, d
        assert 0 <= d.span.start <= d.span.end <= len(text) or d.span.source.name != "spec.fp4"
        assert not d.code.startswith("FP9"), d
    assert "\x1b" not in render(checked.diagnostics)
    to_json(checked.diagnostics)
    for kernel in checked.kernels:
        verify(kernel)
        kernel_json(kernel)
    return checked


@pytest.mark.parametrize("seed", range(30))
def test_damaged_specs(seed: int) -> None:
    """12 malformed specs a seed. Some damage means something else, or nothing (a comment); most must be noticed."""
    rng = random.Random(seed)
    failed = tries = 0
    while failed < 12:
        text = rng.choice(SPECS)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            text = damaged(text, rng)
        failed += judge(text).failed
        tries += 1
        assert tries < 60


@pytest.mark.parametrize("seed", range(20))
def test_random_tokens(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choice((*WORDS, *ODD, "\n")) + rng.choice(("", " ", "\n")) for _ in range(200))
    judge(text)
    judge("kernel k(M, N, K) {\n" + text + "\n}\n")


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(300)
    try:
        source = decode(data, "spec.fp4")
    except DiagnosticError as problem:
        assert [d.code for d in problem.diagnostics] == ["FP1008"]
        assert render(problem.diagnostics)
        return
    judge(source.text)


@pytest.mark.parametrize(
    "opening, closing", [("(", ")"), ("-", ""), ("exp(", ")"), ("x + ", ""), ("not ", ""), ("(x, ", ")")]
)
def test_deep_nesting(opening: str, closing: str) -> None:
    for depth in (60, 200, 5_000):
        text = f"kernel k(M) {{\n in x : f32[M]\n out y : f32[M]\n y = {opening * depth}x{closing * depth}\n}}\n"
        checked = judge(text)
        if depth > 64 and opening != "(":
            assert "FP1006" in {d.code for d in checked.diagnostics}


@pytest.mark.parametrize("bracket", "([{")
def test_deep_brackets(bracket: str) -> None:
    judge(f"kernel k(M) {{ y = {bracket * 50_000}")
    judge(bracket * 50_000)
    judge("layout v { atom " + bracket * 50_000)


def test_deep_trees_of_layouts() -> None:
    deep = "(" * 300 + "1" + ",)" * 300
    assert "FP1006" in {d.code for d in judge(f"layout v {{ coords k : 1; atom {deep} : {deep} }}").diagnostics}


def test_deep_calls() -> None:
    functions = ["fn f0(x) = x + 1"] + [f"fn f{i}_(x) = f{i - 1}{'_' if i > 1 else ''}(x) + 1" for i in range(1, 500)]
    spec = "\n".join(functions) + "\nkernel k(M) {\n in x : f32[M]\n out y : f32[M]\n y = f499_(x)\n}\n"
    assert {d.code for d in judge(spec).diagnostics} == {"FP2029"}


def test_calls_that_double() -> None:
    functions = ["fn g0(x) = x + 1"] + [f"fn g{i}(x) = g{i - 1}(x) + g{i - 1}(x)" for i in range(1, 40)]
    spec = "\n".join(functions) + "\nkernel k(M) {\n in x : f32[M]\n out y : f32[M]\n y = g39(x)\n}\n"
    assert {d.code for d in judge(spec).diagnostics} == {"FP2029"}


@pytest.mark.parametrize(
    "number", ["9" * 5000, "1e" + "9" * 50, "0x" + "f" * 5000, "1." + "0" * 5000 + "1", "0" * 5000]
)
def test_huge_numbers(number: str) -> None:
    judge(f"kernel k(M, N = {number}) {{\n in x : f32[M, {number}]\n out y : f32[M]\n y = {number}\n}}\n")
    judge(f"layout v {{ coords row : {number}, k : 4; atom ({number}, 4) : ({number}, 1); pad {number} }}")
    judge(f"format f extends nvfp4 {{ scale e4m3 per {number} x {number} }}")
    judge(f"kernel k(M) {{ in x : f32[M]; out y : f32[M]; y = x }}\nschedule k on sm_100a {{ stages {number} }}")


def test_line_ends_and_marks_mean_nothing() -> None:
    text = SPECS[0]
    wanted = [k.name for k in judge(text).kernels]
    for other in (
        text.replace("\n", "\r\n"),
        text.replace("    ", "\t"),
        decode(b"\xef\xbb\xbf" + text.encode(), "s").text,
    ):
        checked = judge(other)
        assert not checked.failed
        assert [k.name for k in checked.kernels] == wanted


def test_empty_texts() -> None:
    for text in ("", "\n", "# only a comment", ";;;\n;", "   \t"):
        checked = judge(text)
        assert not checked.failed and not checked.kernels


def test_one_mistake_is_one_error() -> None:
    """A token less in a sound spec: nearly always one error, never a page of them."""
    rng = random.Random(5)
    counts: list[int] = []
    while len(counts) < 80:
        tokens = TOKEN.findall(re.sub(r"#[^\n]*", "", rng.choice(SPECS)))
        at = rng.randrange(len(tokens))
        if not tokens[at].isspace():
            tokens[at] = " "
            counts.append(len(judge("".join(tokens)).diagnostics))
    assert max(counts) <= 4
    assert sum(count <= 1 for count in counts) >= 74
