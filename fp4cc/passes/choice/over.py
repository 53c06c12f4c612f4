"""Size expressions over arrays of sizes: what `fp4rt.sizes.evaluate` says of each, for the compiler's own formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from fp4cc.ir.kernel import Expr

Array = npt.NDArray[Any]

_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sub": np.subtract,
    "div": np.floor_divide,  # of sizes that are only samples: what should divide exactly is rounded down
    "floordiv": np.floor_divide,
    "ceildiv": lambda a, b: -np.floor_divide(-a, b),
    "mod": np.mod,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.logical_and,
    "or": np.logical_or,
}
_LOGICAL = ("and", "or", "not", "where")


#: The values of expressions: formulas of candidates have many parts in common.
Known = dict[Expr, Array]


def over(expr: Expr, dims: Mapping[str, Array], known: Known | None = None) -> Array:
    """The values of an expression for arrays of sizes of one shape. KeyError for a dim that `dims` lacks.

    `known`: what has been found for the same sizes; expressions that share parts may share it.
    """
    found = _over(expr, dims, {} if known is None else known)
    shape = next(iter(dims.values())).shape if dims else ()
    return np.broadcast_to(found, shape)


def _over(expr: Expr, dims: Mapping[str, Array], known: Known) -> Array:
    if isinstance(expr, int):
        return np.asarray(expr, np.bool_ if isinstance(expr, bool) else np.int64)
    if isinstance(expr, str):
        return dims[expr]
    found = known.get(expr)
    if found is None:
        found = known[expr] = _applied(expr, dims, known)
    return found


def _applied(expr: tuple[Any, ...], dims: Mapping[str, Array], known: Known) -> Array:
    operator, *operands = expr
    values = [_over(e, dims, known) for e in operands]
    if operator not in _LOGICAL:  # arithmetic takes what a comparison says as 0 or 1
        values = [value.astype(np.int64) if value.dtype == np.bool_ else value for value in values]
    if operator in _FOLD:
        return reduce(_FOLD[operator], values)
    if operator in _BINARY:
        return _BINARY[operator](*values)
    if operator == "where":
        return np.where(*values)
    return np.logical_not(*values) if operator == "not" else np.negative(*values)
