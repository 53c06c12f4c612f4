"""The version of fp4cc: one for the compiler and its runtime, which are one distribution."""

from __future__ import annotations

from fp4rt.version import UNINSTALLED, version

__all__ = ["UNINSTALLED", "version"]
