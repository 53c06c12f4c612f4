"""docs/numerics.md shows the formats and the equations that the code has.

python tests/fp4num/test_docs.py      # writes the generated parts of the page anew
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from fp4num import FORMATS, RULES, BlockFormat
from fp4num.notation import equations
from fp4num.trace import Mode, trace

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
WHAT = {"amax": "largest magnitude, NaN ignored", "amax_nan": "largest magnitude, NaN propagates", "std": "deviation"}


def formats() -> str:
    head = ("format", "element", "scale", "block", "stored", "layout", "tensor scale", "quantizer")
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, f in FORMATS.items():
        if name == f.name:
            block, stored = (" x ".join(map(str, extents)) for extents in (f.block, f.stored))
            cells = (name, f.element, f.scale, block, stored, f.layout.name, _tensor_scale(f), f.quantizer)
            rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def _tensor_scale(f: BlockFormat) -> str:
    return f"{f.tensor_scale or ''}{', one a batch' if f.each_batch else ''}"


def example(name: str) -> BlockFormat:
    """A prelude format with e2m1 elements where the rule makes one."""
    kind = RULES[name].scales[0]
    return FORMATS[{"e4m3": "nvfp4", "e8m0": "mxfp4", "f32": "ds_act"}[kind]]


def quantizer(name: str) -> str:
    rule, fmt = RULES[name], example(name)
    modes: tuple[Mode, ...] = ("amax", "tensor_scale") if fmt.tensor_scale else ("none",)
    lines: list[str] = []
    for mode in modes:
        program = trace(fmt, mode, name)
        if program.tensor.steps:
            lines += [f"# once a tensor, from {mode}", *equations(program.tensor), ""]
    program = trace(fmt, modes[0], name)
    lines += ["# once a block", *equations(program.block), "", "# once an element", *equations(program.element)]
    if program.alternative is not None and program.error is not None:
        lines += ["", "# the alternative, once a block", *equations(program.alternative)[:1]]
        lines += ["", "# once an element and candidate, from amax", *equations(program.error)]
        given = trace(fmt, "tensor_scale", name).error
        assert given is not None
        lines += ["", "# the same from tensor_scale", *equations(given)]
    text = (rule.__doc__ or "").strip().splitlines()[0]
    said = textwrap.fill(f"{text} (Statistic: {WHAT[rule.statistic]}.)", 120, break_on_hyphens=False)
    heading = f"### `{name}`\n\n{said}"
    body = "\n".join(f"    {line}".rstrip() for line in lines)
    return f"{heading}\n\n{body}"


def quantizers() -> str:
    """Every rule, but of four over six one, of which the others differ in a constant or the error."""
    shown = [name for name in RULES if not name.startswith("nvfp4_4over6") or name == "nvfp4_4over6_mse"]
    others = (
        "`nvfp4_4over6_mae` takes `error = abs(difference)`; the rules whose name ends in `_256` have 1536 for 2688."
    )
    return "\n\n".join([*map(quantizer, shown), others])


def render(text: str) -> str:
    """The page with its generated parts, which lie between a marker and its `end` marker."""
    for name, body in (("formats", formats()), ("quantizers", quantizers())):
        pattern = re.compile(rf"<!-- {name} -->\n(?:.*?<!-- end {name} -->\n)?", re.DOTALL)
        text = pattern.sub(lambda _, n=name, b=body: f"<!-- {n} -->\n{b}\n<!-- end {n} -->\n", text)
    return text


def test_the_page_shows_what_the_code_does() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "<!-- end formats -->" in text and "<!-- end quantizers -->" in text
    assert render(text) == text, f"{PAGE.name} is out of date: run python {Path(__file__).name}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
