"""All families of programs by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from . import clusters, copies, lanes, matrices, warps
from .program import Program

FAMILIES: dict[str, Callable[[], Iterator[Program]]] = {
    **{name: functools.partial(lanes.programs, name) for name in lanes.FAMILIES},
    **warps.FAMILIES,
    **clusters.FAMILIES,
    **copies.FAMILIES,
    **matrices.FAMILIES,
}
