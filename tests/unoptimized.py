"""Emitted kernels compiled sooner, for the tests that run their PTX and never their cubin."""

from __future__ import annotations

_OPTION = "--keep-cubin"


def unoptimized(python: str) -> str:
    """A kernel file whose cubin is assembled without optimization. Its PTX is the same, which tests/e2e checks."""
    assert python.count(_OPTION) == 1, "the emitted file says its options once"
    return python.replace(_OPTION, f"{_OPTION} --opt-level 0")
