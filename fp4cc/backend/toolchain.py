"""Which versions turn a kernel file into a cubin: part of the cache key and of the manifest."""

from __future__ import annotations

import platform
from functools import cache

#: The distribution whose version decides the PTX and cubin for one kernel text.
DSL_DISTRIBUTION = "nvidia-cutlass-dsl"


@cache
def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def toolchain() -> dict[str, str]:
    """Versions by name. The same toolchain and kernel text give the same bytes."""
    from fp4cc.version import version

    # The DSL traces Python, so the interpreter's minor version belongs to it.
    return {
        "fp4cc": version(),
        DSL_DISTRIBUTION: installed_version(DSL_DISTRIBUTION) or "not installed",
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
