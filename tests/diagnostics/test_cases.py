"""Every code has a spec that provokes it, and the text that a user then sees."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fp4cc.chain import End, Link, check_chain
from fp4cc.diagnostics import CODES, Diagnostic, DiagnosticError, render, to_json
from fp4cc.files import MAX_BYTES
from fp4cc.frontend.program import decode
from fp4cc.frontend.units import MAX_TOKENS
from fp4cc.passes import lower
from fp4cc.sema import analyze, prelude_scope
from fp4cc.source import Source

CASES = Path(__file__).parent / "cases"

#: Codes that no text of a spec can provoke: faults of fp4cc itself and of its tools. Their own tests raise them.
INTERNAL = {"FP9001", "FP9002", "FP9003"}
#: Guards of the lowering: the checker admits no spec that reaches them.
GUARDS = {"FP4021", "FP4023"}
#: Codes whose case is made here: a file of that size does not belong in the repository.
MADE = {"FP1009", "FP1014"}


def diagnose(path: Path) -> tuple[Diagnostic, ...]:
    """What a user sees who compiles the file, for sm_100a or the target that its first line names.

    A first line `# chain a.q=b.x` asks for the chain instead.
    """
    try:
        source = decode(path.read_bytes(), path.name)
    except DiagnosticError as problem:
        return problem.diagnostics
    checked = analyze(source, path.parent)
    if checked.failed:
        return checked.diagnostics
    if source.text.startswith("# chain "):
        known = {k.name: k for k in checked.kernels}
        links = re.findall(r"(\w+)\.(\w+)=(\w+)\.(\w+)", source.text.partition("\n")[0])
        try:
            check_chain(
                [Link(End(a, known[a], known[a].arg(x)), End(b, known[b], known[b].arg(y))) for a, x, b, y in links]
            )
        except DiagnosticError as problem:
            return problem.diagnostics
        return ()
    named = re.match(r"# for (sm_\w+)", source.text)
    target = named.group(1) if named else "sm_100a"
    found: list[Diagnostic] = []
    for kernel in checked.kernels:
        try:
            lower(kernel, target)
        except DiagnosticError as problem:
            found.extend(problem.diagnostics)
    return tuple(found)


@pytest.mark.parametrize("path", sorted(CASES.glob("*.fp4")), ids=lambda p: p.stem)
def test_message(path: Path, golden: Callable[[Path, str], None]) -> None:
    found = diagnose(path)
    assert path.stem.partition("_")[0] in [d.code for d in found]
    golden(path.with_suffix(".txt"), render(found))


def test_every_code_has_a_case() -> None:
    cases = {path.stem.partition("_")[0] for path in CASES.glob("*.fp4")}
    assert set(CODES) == cases | INTERNAL | GUARDS | MADE


def test_every_diagnostic_says_where_and_what() -> None:
    for path in CASES.glob("*.fp4"):
        for d in diagnose(path):
            assert d.code in CODES
            assert d.span is not None, d
            assert d.title == d.title.strip() and not d.title.endswith("."), d
            assert d.labels[0].text or d.notes or d.help, d
    assert not prelude_scope().partial


def test_too_large_a_file() -> None:
    with pytest.raises(DiagnosticError) as caught:
        decode(b"#" * (MAX_BYTES + 1), "big.fp4")
    assert [d.code for d in caught.value.diagnostics] == ["FP1009"]


def test_too_many_tokens() -> None:
    text = "kernel k(M) {\n in x : f32[M]\n out y : f32[M]\n y = x" + " + x" * MAX_TOKENS + "\n}\n"
    (found,) = analyze(Source("big.fp4", text)).diagnostics
    assert found.code == "FP1014" and found.span is not None


def test_json_has_places() -> None:
    (found,) = analyze(
        Source("x.fp4", "kernel k(M) {\n    in x : f33[M]\n    out y : f32[M]\n    y = x\n}\n")
    ).diagnostics
    (entry,) = to_json([found])
    assert entry["code"] == "FP2019"
    assert entry["labels"] == [
        {"file": "x.fp4", "start": 25, "end": 28, "line": 2, "column": 12, "end_line": 2, "end_column": 15,
         "text": "unknown type"}
    ]  # fmt: skip
