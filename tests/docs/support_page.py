"""docs/support.md: what each target makes of each construct, made from the compiler."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower
from fp4cc.sema.schedules import TARGETS

from .construct import checked
from .constructs import OPERANDS, SECTIONS

DOCS = Path(__file__).resolve().parents[2] / "docs"
LANGUAGE = DOCS / "language.md"


def pair_answer(a: str, b: str, target: str) -> str:
    """What becomes of `a @ b.T`: "yes", or the condition on K that the target adds, or the code."""
    text = f"kernel k(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T }}"
    (kernel,) = checked(text)
    try:
        lowered = lower(kernel, target)
    except DiagnosticError as refused:
        return _codes({d.code for d in refused.diagnostics})
    own = {c.text for c in kernel.constraints}
    added = [c.text.removesuffix(" == 0") for c in lowered.constraints if c.text not in own and "K" in c.text]
    return ", ".join(f"`{text}`" for text in dict.fromkeys(added)) or "yes"


def examples() -> dict[str, str]:
    """Each kernel of docs/language.md, with the code block that it stands in."""
    blocks = re.findall(r"```fp4\n(.*?)```", LANGUAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {name: block for block in blocks for name in re.findall(r"^kernel (\w+)", block, re.MULTILINE)}


@functools.cache
def example_answer(name: str, block: str, target: str) -> str:
    """The codes that refuse a kernel of docs/language.md."""
    kernels = checked(block)
    try:
        lower(next(k for k in kernels if k.name == name), target)
    except DiagnosticError as refused:
        return ", ".join(sorted({d.code for d in refused.diagnostics}))
    return ""


def _codes(codes: Iterable[str]) -> str:
    return ", ".join(f"[{code}](diagnostics.md#{code.lower()})" for code in sorted(codes))


def _cell(answer: str) -> str:
    return _codes(answer.split(", ")) if answer else "yes"


INTRO = """\
# What is compiled

Made by `pytest tests/docs --update-golden` from the compiler itself: each line is a small spec
(`tests/docs/constructs.py`) that was lowered for each target. A code says that the target refuses it, and where to read
why; the reference device runs all of it. A test fails where this page and the compiler differ.

**No kernel of fp4cc has run on a Blackwell GPU yet.** What stands in for it: the PTX of each cubin runs on the emulator
([emulator.md](emulator.md)) and is compared with the reference; and kernels for sm_90a, which share everything but the
block-scaled instructions, have run on Hopper GPUs.
"""


def page() -> str:
    """The text of docs/support.md."""
    targets = sorted(TARGETS)
    lines = [INTRO]
    for title, constructs in SECTIONS.items():
        lines += [f"## {title}\n", *_head(["", *targets])]
        for construct in constructs():
            lines.append(f"| {construct.title} | {' | '.join(_cell(construct.answer(t)) for t in targets)} |")
        lines.append("")
    lines += ["## Examples of language.md\n", *_head(["kernel", *targets])]
    for name, block in examples().items():
        lines.append(f"| `{name}` | {' | '.join(_cell(example_answer(name, block, t)) for t in targets)} |")
    for target in ("sm_100a", "sm_90a"):
        lines += [
            f"\n## Operands of a product, {target}\n",
            "Rows are A, columns B, of `a @ b.T`. `K % 32`: if K is a multiple of 32, in whole scale blocks.\n",
        ]
        lines += _head(["", *(f"`{b}`" for b in OPERANDS)])
        for a in OPERANDS:
            lines.append(f"| `{a}` | {' | '.join(pair_answer(a, b, target) for b in OPERANDS)} |")
    return "\n".join(lines) + "\n"


def _head(cells: list[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"|{'---|' * len(cells)}"]
