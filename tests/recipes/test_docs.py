"""docs/recipes.md: its commands do what it says, and it has every recipe."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fp4cc.cli.main import cli
from fp4cc.driver.request import Request
from fp4cc.driver.spec import read_spec
from fp4cc.driver.stages import typed_kernels

from .conftest import RECIPES

ROOT = RECIPES.parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```text\nfp4cc (check .+?)\n```", PAGE)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.split()[1].rpartition("/")[2])
def test_the_chains_are_proved(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ran = CliRunner().invoke(cli, shlex.split(command))
    assert ran.exit_code == 0, ran.output
    assert ran.output.endswith(f"chain: {_links(command)}, the types are equal\n")
    shown = f"```text\nfp4cc {command}\n```\n\n```text\n"
    if (start := PAGE.find(shown)) >= 0:
        assert PAGE[start + len(shown) :].startswith(ran.output + "```")


def _links(command: str) -> str:
    count = command.count("--chain")
    return f"{count} link{'' if count == 1 else 's'}"


def test_every_recipe_is_listed_and_chained() -> None:
    listed = {name: int(count) for name, count in re.findall(r"^\| `(\w+\.fp4)` \|.*\| (\d+) \|$", PAGE, re.MULTILINE)}
    there = {p.name: len(typed_kernels(Request(read_spec(Path(p))))[0]) for p in RECIPES.glob("*.fp4")}
    assert listed == there
    assert {command.split()[1].rpartition("/")[2] for command in COMMANDS} == set(there)
