"""The registry of epilogue constructs: a construct that is not fp4cc's own takes part at every hook."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.text import also
from fp4cc.codegen.fragments import Block, Fragment, Function, fragment
from fp4cc.passes import lower
from fp4cc.passes.epilogue.construct import Construct as Planned

from .pipeline import parse

SPEC = """
kernel k(M, N, K) {
    in x : e4m3[M, K]; in w : e4m3[N, K]; in bias : f32[N]
    out y : f32[M, N]
    y = x @ w.T + bias
}
"""


class Everywhere(Construct):
    """Something at every hook. Of the lists that it makes nothing needs the second one."""

    name = "everywhere"

    def setup(self) -> Fragment:
        return fragment("mine = at_setup(thread)")

    def rows(self) -> Fragment:
        return fragment("mine = at_rows(mine)")

    def ahead(self) -> Fragment:
        return fragment("mine = at_ahead(mine)")

    def per_tile(self) -> Fragment:
        return (Block("if lane == 0:", fragment("at_tile(mine)")),)

    def lists(self) -> None:
        self.epilogue.steps += [fragment("mine_values = at_lists(column)"), fragment("unused = at_nothing(column)")]
        self.epilogue.steps.append(fragment("also = at_lists_too(mine_values)"))
        self.epilogue.results[-1] = "also"

    def functions(self) -> list[Function]:
        return [
            Function(name, ("x",), "A hook.", fragment("return x"))
            for name in ("at_setup", "at_rows", "at_ahead", "at_tile", "at_lists", "at_lists_too", "at_subtile",
                         "at_tile_end", "at_finish", "at_walk", "at_panel_end")
        ]  # fmt: skip

    def per_subtile(self) -> Fragment:
        return fragment("at_subtile(mine)")

    def tile_end(self) -> Fragment:
        return fragment("at_tile_end(mine)")

    def finish(self) -> Fragment:
        return fragment("at_finish(mine)")


class Walking(Everywhere):
    """With a walk of its own."""

    def walks(self) -> list[Walk]:
        return [Walk("walk before", fragment("at_walk(column)"), ())]

    def panel_end(self) -> Fragment:
        return fragment("at_panel_end(mine)")


def kernel_of(target: str, construct: type[Construct]) -> str:
    with also(construct):
        text = emit(lower(parse(SPEC), target))
    return text[text.index("@cute.kernel") :]


HOOKS = [
    "at_setup",
    "at_rows",
    "at_ahead",
    "at_tile",
    "at_lists",
    "at_lists_too",
    "at_subtile",
    "at_tile_end",
    "at_finish",
]


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_every_hook_has_its_place(target: str) -> None:
    kernel = kernel_of(target, Everywhere)
    places = [kernel.index(f"{hook}(") for hook in HOOKS]
    assert places == sorted(places)
    depths = [len(line) - len(line.lstrip()) for hook in HOOKS for line in kernel.splitlines() if f"{hook}(" in line]
    assert depths == [8, 12, 12, 16, 16, 16, 16, 12, 8]


def test_what_nothing_needs_is_not_there() -> None:
    assert "at_nothing" not in kernel_of("sm_100a", Everywhere)


def test_names_of_the_frame_are_there_where_a_construct_uses_them() -> None:
    """`lane` is computed because the construct uses it, and no frame mentions it otherwise."""
    assert "        lane = thread % 32\n" in kernel_of("sm_100a", Everywhere)


def test_a_walk_of_its_own() -> None:
    kernel = kernel_of("sm_100a", Walking)
    assert kernel.index("walk before") < kernel.index("at_walk(") < kernel.index("at_lists(")
    assert kernel.index("at_subtile(") < kernel.index("at_panel_end(") < kernel.index("at_tile_end(")


@pytest.mark.parametrize("half", [Construct, Planned])
def test_the_architecture_names_every_hook(half: type) -> None:
    """Those for one input or one output, `input_...` and `output_...`, are told in words."""
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    told = page[page.index("**An epilogue is constructs**") : page.index("**Between kernels.**")]
    hooks = [name for name in vars(half) if inspect.isfunction(vars(half)[name]) and not name.startswith("_")]
    assert len(hooks) > 10
    missing = [name for name in hooks if f"`{name}`" not in told and not name.startswith(("input_", "output_"))]
    assert missing == []
