"""Triton's compiler for NVIDIA GPUs makes the PTX, so this backend has none: it supports no target."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_BASE: Any = import_module("triton.backends.compiler").BaseBackend


def _none(*_: Any) -> Any:
    raise NotImplementedError("fp4emu runs what Triton's backend for NVIDIA GPUs compiles")


def _supports_target(target: Any) -> bool:
    """Of two compilers for one target Triton would take neither."""
    return False


#: Whatever a version of Triton asks of a backend: none of it is called.
Compiler = type(
    "Compiler",
    (_BASE,),
    {**dict.fromkeys(_BASE.__abstractmethods__, _none), "supports_target": staticmethod(_supports_target)},
)
