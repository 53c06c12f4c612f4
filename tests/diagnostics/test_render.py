"""The renderer: alignment, long lines, odd characters, several files, color."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp4cc.diagnostics import Collector, DiagnosticError, did_you_mean, error, listed, render
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source, Span


def _at(text: str, word: str, name: str = "x.fp4") -> Span:
    start = text.index(word)
    return Span(Source(name, text), start, start + len(word))


def test_design_example() -> None:
    text = "format f {\n    element e2m1 pack low_first\n    layout blocked_128x4\n\n\n    scale e4m3 per 1 x 32\n}\n"
    found = error(
        "FP4203", "scale block of 32 needs e8m0 scales on sm_100a", _at(text, "e4m3", "gemm.fp4"),
        "kind::mxf4 takes e8m0 with blocks of 32", help="write `scale e8m0 per 1 x 32` (mxfp4)",
    )  # fmt: skip
    assert render([found]) == (
        "error[FP4203]: scale block of 32 needs e8m0 scales on sm_100a\n"
        "  --> gemm.fp4:6:11\n"
        "   |\n"
        " 6 |     scale e4m3 per 1 x 32\n"
        "   |           ^^^^ kind::mxf4 takes e8m0 with blocks of 32\n"
        "   = help: write `scale e8m0 per 1 x 32` (mxfp4)\n"
        "\n"
        "1 error\n"
    )


def test_tabs_are_four_columns() -> None:
    lines = render([error("FP1001", "t", _at("\tab\tcd\n", "cd"), "here")]).splitlines()
    assert lines[3] == " 1 |     ab  cd"
    assert lines[4] == "   |         ^^ here"


def test_a_wide_character_counts_two_columns() -> None:
    lines = render([error("FP1001", "t", _at("漢 x", "x"), "here")]).splitlines()
    assert lines[4] == "   |    ^ here"


def test_control_characters_are_shown_not_sent() -> None:
    text = "a\x1b[31m\x00 x"
    shown = render([error("FP1001", "bad \x1b[0m title", _at(text, "x"), "text \x07")])
    assert "\x1b" not in shown and "\x00" not in shown and "\x07" not in shown


def test_a_long_line_is_cut_around_the_span() -> None:
    text = "x + " * 500 + "HERE" + " + y" * 500
    lines = render([error("FP1001", "t", _at(text, "HERE"), "this")]).splitlines()
    assert len(lines[3]) < 180
    column = lines[4].index("^^^^ this")
    assert lines[3][column : column + 4] == "HERE"


def test_labels_in_two_files() -> None:
    found = error(
        "FP2002", "twice", _at("fn f(x) = x", "f(", "b.fp4"), "again", also=[(_at("fn f(y) = y", "f("), "first")]
    )
    shown = render([found])
    assert "--> b.fp4:1:4" in shown and "::: x.fp4:1:4" in shown


def test_a_span_over_lines_is_underlined_on_its_first() -> None:
    lines = render([error("FP1001", "t", _at("ab (c\n + d)", "(c\n + d)"), "here")]).splitlines()
    assert lines[4] == "   |    ^^ here"


def test_the_end_of_a_text_can_be_marked() -> None:
    source = Source("x.fp4", "abc")
    lines = render([error("FP1001", "t", Span(source, 3, 3), "here")]).splitlines()
    assert lines[4] == "   |    ^ here"


def test_color_only_on_request() -> None:
    found = error("FP1001", "t", _at("abc", "b"), "here")
    assert "\x1b[" not in render([found])
    assert "\x1b[" in render([found], color=True)


def test_nothing_to_say() -> None:
    assert render([]) == ""


def test_collector_sorts_and_drops_repeats() -> None:
    source = Source("x.fp4", "abcdef")
    collector = Collector()
    for start in (4, 1, 4):
        collector.report(error("FP1001", "t", Span(source, start, start + 1)))
    assert [d.span.start for d in collector.diagnostics if d.span] == [1, 4]


def test_suggestions() -> None:
    assert did_you_mean("wieght", ["weight", "bias"]) == "did you mean `weight`?"
    assert did_you_mean("m", ["M", "N"]) == "did you mean `M`?"
    assert did_you_mean("zzz", ["M", "N"]) == ""
    assert listed(["a", "b", "c"]) == "`a`, `b` or `c`"


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_lines_wrap_at_the_terminal(width: int) -> None:
    cases = Path(__file__).parent / "cases"
    for name in ("FP4020", "FP3013", "FP2013", "FP2010", "FP1010"):
        source = Source(f"{name}.fp4", (cases / f"{name}.fp4").read_text())
        found = list(analyze(source).diagnostics)
        for kernel in analyze(source).kernels:
            try:
                lower(kernel, "sm_100a")
            except DiagnosticError as refused:
                found.extend(refused.diagnostics)
        assert found
        wrapped = render(found, width=width)
        assert max(map(len, wrapped.splitlines())) <= width, wrapped
        for d in found:  # all words are there still, in order
            words = " ".join((d.title, *(label.text for label in d.labels), *d.notes, *d.help)).split()
            assert set(words) <= set(wrapped.replace(":", ": ").split()) | {w for w in words if ":" in w}
        assert render(found) == render(found, width=None)


def test_many_diagnostics_are_counted() -> None:
    source = Source("x.fp4", "q" * 200)
    found = [error("FP2001", f"number {i}", Span(source, i, i + 1)) for i in range(200)]
    shown = render(found)
    assert "number 127" in shown and "number 128" not in shown
    assert "... and 72 more" in shown and shown.endswith("200 errors\n")
