"""Options that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fp4cc.plans import MOST_PLANS

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?[0-9]+")
_LARGEST = 2**31 - 1
_DIGITS = 20  # of a number that is certainly too large


class _Setting(click.ParamType):
    """`NAME=NUMBER`."""

    name = "NAME=SIZE"

    def __init__(self, option: str = "--set") -> None:
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value  # click converts a converted value again
        name, equals, number = str(value).partition("=")
        if not equals or not _NAME.fullmatch(name):
            self.fail(f"{value!r} is not NAME=SIZE; write for example {self.option} M=256", param, ctx)
        if not _NUMBER.fullmatch(number):
            again = f"; write {self.option} again for another dim" if "=" in number else ""
            self.fail(f"{number!r} is not a whole number{again}", param, ctx)
        size = int(number[:_DIGITS])
        if not 0 <= size <= _LARGEST:
            self.fail(f"{name}={size} is outside 0 to {_LARGEST}", param, ctx)
        return name, size


class _Input(click.ParamType):
    """`NAME=FILE`."""

    name = "NAME=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        if isinstance(value, tuple):
            return value
        name, equals, file = str(value).partition("=")
        if not equals or not _NAME.fullmatch(name) or not file:
            self.fail(f"{value!r} is not NAME=FILE; write for example --input a=a.npy", param, ctx)
        path = Path(file)
        if path.suffix not in (".npy", ".npz"):
            self.fail(f"{file} is neither .npy nor .npz", param, ctx)
        if not path.is_file():
            self.fail(f"there is no file {file}", param, ctx)
        return name, path


def _unique(ctx: click.Context, param: click.Parameter, values: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values:
        if name in found:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
        found[name] = value
    return found


spec_argument = click.argument(
    "spec", type=click.Path(exists=True, dir_okay=False, allow_dash=True, readable=True), metavar="SPEC"
)
target_option = click.option(
    "--target", default="sm_100a", show_default=True, metavar="ARCH", help="GPU architecture to compile for."
)
set_option = click.option(
    "--set",
    "sizes",
    type=_Setting(),
    multiple=True,
    callback=_unique,
    metavar="NAME=SIZE",
    help="Fix a dimension: the kernel is built for this size alone. May be repeated.",
)
at_option = click.option(
    "--at",
    "call",
    type=_Setting("--at"),
    multiple=True,
    callback=_unique,
    metavar="NAME=SIZE",
    help="The size of a dimension in a call of the kernel for any size. May be repeated.",
)
plans_option = click.option(
    "--plans",
    type=click.IntRange(1, MOST_PLANS),
    default=MOST_PLANS,
    show_default=True,
    metavar="N",
    help="At most so many plans for dynamic sizes, each for the sizes that it suits; 1: one for all.",
)
input_option = click.option(
    "--input",
    "inputs",
    type=_Input(),
    multiple=True,
    callback=_unique,
    metavar="NAME=FILE",
    help="An argument from a file: .npy, or .npz for a quantized one. May be repeated.",
)
kernel_option = click.option("--kernel", metavar="NAME", help="Which kernel of the file (needed where it has several).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
cache_option = click.option("--no-cache", is_flag=True, help="Build anew; neither read nor write the cache.")
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, cuda, cuda:N, emulator or reference. auto: a GPU of the target's architecture, else the emulator.",
)
seed_option = click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of random inputs."
)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=1))
