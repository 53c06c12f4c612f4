"""fp4cc: a compiler for block-scaled FP4/FP6/FP8 GEMM kernels.

Importing this package is cheap; `compile` imports the compiler when it is first called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fp4cc.driver import compile as compile

__all__ = ["compile"]


def __getattr__(name: str) -> object:
    if name == "compile":
        from fp4cc.driver import compile as compile_

        return compile_
    raise AttributeError(f"module 'fp4cc' has no attribute {name!r}")
