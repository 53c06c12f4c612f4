"""docs/emulator.md lists what the registry holds."""

from __future__ import annotations

from pathlib import Path

from fp4emu import coverage

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"


def test_the_table_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == coverage.update(text), "run: python -m fp4emu.coverage docs/emulator.md"
