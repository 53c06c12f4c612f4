"""The instruction set: one module a family. `load_families` imports them all, which registers their rules."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def load_families() -> None:
    """Imports every module of this package."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
