"""fp4cc: a compiler for block-scaled FP4/FP6/FP8 GEMM kernels.

Importing this package is cheap; the compiler is imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fp4cc.diagnostics import Diagnostic, DiagnosticError
    from fp4cc.driver import RequestError, compile

    __version__: str

__all__ = ["Diagnostic", "DiagnosticError", "RequestError", "__version__", "compile"]

_HOME = {
    "Diagnostic": "fp4cc.diagnostics",
    "DiagnosticError": "fp4cc.diagnostics",
    "RequestError": "fp4cc.driver",
    "compile": "fp4cc.driver",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("fp4cc.version").version()
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'fp4cc' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
