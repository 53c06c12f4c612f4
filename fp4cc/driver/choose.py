"""Picking one kernel where a command works on one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


class SeveralKernels(ValueError):
    """A file has several kernels (or none) and a command needs to know which."""


def only_kernel(kernels: Sequence[N]) -> N:
    """The kernel of a file that has one; SeveralKernels otherwise, with the names to choose from."""
    if len(kernels) == 1:
        return kernels[0]
    if not kernels:
        raise SeveralKernels("the file has no kernel")
    raise SeveralKernels(f"the file has the kernels {', '.join(k.name for k in kernels)}: choose one with --kernel")
