"""The emulator as a driver that Triton makes by itself, where TRITON_DEFAULT_BACKEND names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, get_args

from fp4emu.asynchronous import Mode
from fp4emu.order.checks import Order
from fp4emu.triton import Driver

NAME = "fp4emu"


def _choice(variable: str, allowed: Sequence[str]) -> str:
    """The value of a variable, the first that is allowed where it is not set."""
    found = os.environ.get(variable) or allowed[0]
    if found not in allowed:
        raise ValueError(f"{variable} is {found!r}; it can be {', '.join(allowed)}")
    return found


def _number(variable: str, kind: type[int] | type[float]) -> Any:
    """The value of a variable as a number, None where it is not set."""
    found = os.environ.get(variable)
    try:
        return kind(found) if found else None
    except ValueError:
        raise ValueError(f"{variable} is {found!r}, which is not a number") from None


class Configured(Driver):
    """`fp4emu.triton.Driver` with options from the environment: FP4EMU_TARGET, FP4EMU_ORDER (default, strict or off),
    FP4EMU_MODE (immediate or delayed), FP4EMU_SEED and FP4EMU_SECONDS. Warnings go to standard error, what a kernel
    prints to standard output."""

    def __init__(self) -> None:
        order = _choice("FP4EMU_ORDER", ("default", "strict", "off"))
        kept: dict[str, Order | None] = {"default": "default", "strict": "strict", "off": None}
        mode: Mode = next(m for m in get_args(Mode) if m == _choice("FP4EMU_MODE", get_args(Mode)))
        super().__init__(
            os.environ.get("FP4EMU_TARGET") or "sm_90a",
            order=kept[order],
            mode=mode,
            seed=_number("FP4EMU_SEED", int) or 0,
            seconds=_number("FP4EMU_SECONDS", float),
        )

    @staticmethod
    def is_active() -> bool:
        """Only where it was asked for: a program that finds a GPU keeps it."""
        return os.environ.get("TRITON_DEFAULT_BACKEND") == NAME

    def launch(self, *arguments: Any, **options: Any) -> None:
        try:
            super().launch(*arguments, **options)
        finally:
            sys.stdout.write(self.printed)
            for warning in self.warnings:
                sys.stderr.write(f"fp4emu: {warning}\n")


#: The one class of this module that Triton takes for a driver.
EmulatorDriver = type("EmulatorDriver", (Configured, import_module("triton.backends.driver").DriverBase), {})
