"""docs/diagnostics.md has a section for every code, and its examples do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fp4cc.chain import End, Link, check_chain
from fp4cc.diagnostics import CODES, DiagnosticError
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.errors import CODES as RUNTIME_CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
SECTIONS = {m.group(1): m.group(2) for m in re.finditer(r"^## (FP\d{4})\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)}
EXAMPLES = [
    (code, kind, text)
    for code, section in SECTIONS.items()
    for kind, text in re.findall(r"```fp4 (wrong|right)\n(.*?)```", section, re.S)
]
HEAD = (
    "kernel k(M, N, K) {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]; in x : f32[M, N]; in v : f32[N]\n"
    " in ts : f32[]; in rng : u64[2]\n out y : f32[M, N]\n"
)
GEMM = "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"


def codes_of(text: str) -> set[str]:
    """The codes that an example gives, lowered for sm_100a if it is of that chapter."""
    if not re.match(r"(#|use|fn|kernel|kernal|layout|format|schedule)\b", text) and not text.startswith("#"):
        text = HEAD + text + ("" if re.search(r"^y\b", text, re.M) else "y = x\n") + "}\n"
    elif text.startswith("schedule"):
        text = GEMM + text
    checked = analyze(Source("example.fp4", text))
    found = {d.code for d in checked.diagnostics}
    named = re.search(r"# for (sm_\w+)", text)
    target = named.group(1) if named else "sm_100a"
    if found:
        return found
    if text.startswith("# chain "):
        known = {k.name: k for k in checked.kernels}
        links = re.findall(r"(\w+)\.(\w+)=(\w+)\.(\w+)", text.partition("\n")[0])
        try:
            check_chain(
                [Link(End(a, known[a], known[a].arg(x)), End(b, known[b], known[b].arg(y))) for a, x, b, y in links]
            )
        except DiagnosticError as problem:
            return {d.code for d in problem.diagnostics}
        return set()
    for kernel in checked.kernels:
        try:
            lower(kernel, target)
        except DiagnosticError as problem:
            found |= {d.code for d in problem.diagnostics}
    return found


def test_every_code_has_a_section() -> None:
    assert set(SECTIONS) == set(CODES) | set(RUNTIME_CODES)
    assert all(section.strip() for section in SECTIONS.values())


def test_every_code_in_the_source_is_registered() -> None:
    for path in (ROOT / "fp4cc").rglob("*.py"):
        for code in re.findall(r'"(FP\d{4})"', path.read_text(encoding="utf-8")):
            assert code in CODES or code in RUNTIME_CODES, f"{path.name}: {code}"


@pytest.mark.parametrize("code, kind, text", EXAMPLES, ids=[f"{c}-{k}" for c, k, _ in EXAMPLES])
def test_example(code: str, kind: str, text: str) -> None:
    found = codes_of(text)
    if kind == "wrong":
        assert code in found
    elif code.startswith(("FP4", "FP5")):
        assert not found
    else:
        # A target may lack what the language has; the language itself must accept it.
        assert not {c for c in found if not c.startswith("FP4")}
