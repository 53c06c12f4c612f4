"""The coverage table of docs/emulator.md, from the registry: `python -m fp4emu.coverage docs/emulator.md` rewrites
it."""

from __future__ import annotations

import sys
from pathlib import Path

from fp4emu.isa import load_families
from fp4emu.registry import RULES, Rule

MANY = 16  # alternatives, of which only the ends are shown
BEGIN, END = "<!-- coverage table: made by fp4emu.coverage -->", "<!-- end of the coverage table -->"


def table() -> str:
    """One table a family: opcode, the modifiers that are understood, where it exists, the section of the PTX ISA."""
    load_families()
    families: dict[str, list[Rule]] = {}
    for rules in RULES.values():
        for rule in rules:
            families.setdefault(rule.family, []).append(rule)
    lines: list[str] = []
    for family in sorted(families):
        lines += [
            "",
            f"### `isa/{family}.py`",
            "",
            "| instruction | modifiers | targets | PTX ISA |",
            "|---|---|---|---|",
        ]
        for rule in sorted(families[family], key=lambda r: (r.opcode, r.form_texts)):
            for form in rule.form_texts:
                modifiers = f"`{_readable(form)}`" if form else ""
                lines.append(f"| `{rule.opcode}` | {modifiers} | {', '.join(rule.targets) or 'all'} | {rule.section} |")
    return "\n".join(lines) + "\n"


def _readable(form: str) -> str:
    """A form without the names of its slots: `.rn|.rz [.ftz] .f32`."""
    words: list[str] = []
    for word in form.split():
        optional = word.startswith("[")
        body = word[1:-1] if optional else word
        alternatives = body.partition("=")[2] or body
        choices = [f".{choice}" for choice in alternatives.split("|")]
        if len(choices) > MANY:
            choices = [choices[0], choices[1], "...", choices[-1]]
        text = "\\|".join(choices)
        words.append(f"[{text}]" if optional else text)
    return " ".join(words)


def update(text: str) -> str:
    """A page with its table replaced."""
    before, found, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    page = Path(sys.argv[1])
    page.write_text(update(page.read_text()))


if __name__ == "__main__":
    main()
