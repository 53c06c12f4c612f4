"""The version of fp4cc, from the installed distribution."""

from __future__ import annotations

from functools import cache

#: What a source tree that was never installed calls itself.
UNINSTALLED = "0+uninstalled"


@cache
def version() -> str:
    """The distribution's version, or `0+uninstalled` for a source tree on PYTHONPATH."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as distribution_version

    try:
        return distribution_version("fp4cc")
    except PackageNotFoundError:
        return UNINSTALLED
