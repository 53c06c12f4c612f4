"""Invariants of the typed kernel: the rules by which the runtime reads one (`fp4rt.wellformed`).

A pass that breaks one is at fault, not the user: hence FP9001.
"""

from __future__ import annotations

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.serialize import to_typed
from fp4rt.wellformed import MODES, REDUCTIONS, Dialect, problems

#: What passes make that no file has: reductions to the largest magnitude, the scale of a row from a statistic of it
#: that another launch has made, and halves of tensors whose codes are moved as they are.
_BETWEEN_PASSES = Dialect((*REDUCTIONS, "amax", "amax_nan"), (*MODES, "statistic"), moves_codes=True)


def verify(kernel: Kernel, after: str = "sema") -> None:
    """Raise DiagnosticError (FP9001) naming every invariant that `kernel` breaks; `after` is the pass that made it."""
    found = list(problems(to_typed(kernel), _BETWEEN_PASSES))
    if found:
        raise DiagnosticError(found_in(kernel, after, f"{place}: {text}") for place, text in found)


def found_in(kernel: Kernel, after: str, text: str) -> Diagnostic:
    """The diagnostic of a broken invariant."""
    return error(
        "FP9001",
        f"fp4cc made an invalid program of `{kernel.name}` after {after}",
        kernel.span,
        text,
        help="this is a fault of fp4cc: please report it with the spec",
    )
