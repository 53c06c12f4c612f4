"""docs/support.md is what the compiler answers today, and docs/language.md marks what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fp4cc.sema.schedules import FIELDS, TARGETS
from fp4cc.sema.scope import BUILT_INS

from .construct import Construct
from .constructs import SECTIONS
from .support_page import DOCS, LANGUAGE, example_answer, examples, page

CONSTRUCTS = {c.title: c for make in SECTIONS.values() for c in make()}
#: What docs/language.md says of a construct that no target compiles, and what it calls it.
MARK = "[not compiled yet](support.md)"
#: The place of a construct in docs/language.md: how its line or paragraph begins -> the constructs it is about.
PLACES = {
    "| `in s : f32[]` |": ("kernel of scalars only",),
    "**Ragged** and **masked** axes": ("ragged axis `M by offsets`", "masked axis `M upto counts`"),
    "Groups may be empty.": (
        "quantized output with ragged columns",
        "`sum` over ragged rows",
    ),
    "A product that contracts rows in groups": ("ragged columns contracted (`bf16[N, M by offsets]`)",),
    "**Products.**": (
        "product of a computed operand",
        "product without `.T` (`bf16[K, N]`)",
        "products with different axes",
    ),
    "| reductions |": ("`max` over a batch axis", "value that uses its own reduction (softmax, rms norm)"),
    "| `dequantize(q)` |": ("quantized input elementwise, `dequantize(q)`",),
    "`use_them`": ("functions of one's own (`use_them`)",),
    "| `split_k` |": ("`split_k 4`",),
    "| `swap_ab` |": ("`swap_ab yes`",),
    "| `store` |": ("`store tma`", "`store direct`"),
}


def test_the_page_is_what_the_compiler_answers(golden: Callable[[Path, str], None]) -> None:
    golden(DOCS / "support.md", page())


@pytest.mark.parametrize("place", PLACES)
def test_language_md_marks_what_no_target_compiles(place: str) -> None:
    """A mark stands where something is refused everywhere, and goes when it is built."""
    (found,) = [p for p in _pieces() if p.startswith(place)]
    refused = any(all(CONSTRUCTS[title].answers().values()) for title in PLACES[place])
    assert (MARK in found) == refused


def test_every_construct_that_is_refused_everywhere_has_its_mark() -> None:
    marked = {title for titles in PLACES.values() for title in titles}
    like = re.compile(
        r"over a batch axis|own reduction|inside an expression|quantized input|one format to another|of a product$"
    )
    refused = {title for title, c in CONSTRUCTS.items() if c.answer("sm_100a") and c.answer("sm_90a")}
    assert {title for title in refused - marked if not like.search(title)} == set()


def test_targets_that_compile_nothing_are_marked() -> None:
    (found,) = [p for p in _pieces() if p.startswith("A schedule is for one kernel")]
    answers = {target: CONSTRUCTS["static dims"].answer(target) for target in TARGETS}
    for target, answer in answers.items():
        assert bool(answer) == bool(re.search(rf"`{target}`[^.;]*are {re.escape(MARK)}", found))


def test_the_examples_of_language_md_that_are_refused_are_marked() -> None:
    text = LANGUAGE.read_text(encoding="utf-8")
    for name, block in examples().items():
        if example_answer(name, block, "sm_100a"):
            before = text[: text.index(block)]
            assert MARK in " ".join(before[before.rindex("\n#") :].split()), name


def test_every_field_and_function_is_in_the_table() -> None:
    everything = " ".join(c.text for c in CONSTRUCTS.values())
    assert {name for name in FIELDS if f"{{ {name} " not in everything} == set()
    assert {name for name in BUILT_INS if f"{name}(" not in everything} == set()


def test_a_construct_that_is_no_spec_is_no_answer() -> None:
    from fp4cc.diagnostics import DiagnosticError

    with pytest.raises(DiagnosticError):
        Construct("wrong", "kernel k(M) { in a : nvfp5[M]; out b : f32[M]; b = a }").answer("sm_100a")


def _pieces() -> list[str]:
    """Paragraphs, each in one line, and lines of tables."""
    text = LANGUAGE.read_text(encoding="utf-8")
    return [
        " ".join(p.split())
        for block in text.split("\n\n")
        for p in (block.split("\n") if block.startswith("|") else [block])
    ]
