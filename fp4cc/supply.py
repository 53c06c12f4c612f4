"""Kernels by name for fp4rt, which finds this module by the entry point group `fp4rt.compilers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fp4cc.driver import RequestError, artifact_of, build, only_kernel, read_spec
from fp4cc.driver.request import Request
from fp4cc.plans import MOST_PLANS
from fp4cc.resources import recipes_dir

if TYPE_CHECKING:
    from fp4cc.driver import Spec
    from fp4rt import Artifact


def artifact(file: str, kernel: str, target: str | None, *, plans: int = MOST_PLANS) -> Artifact:
    """One kernel of a file of recipes, or a quantizer (`fp4rt.quantizing`), compiled through the cache.

    A target of None gives the typed kernel alone. Raises RequestError where there is no such file or kernel, and what
    `fp4cc.compile` raises.
    """
    request = Request(_spec(file, kernel), target or "sm_100a", {}, kernel, plans)
    if target is None:
        from fp4cc.driver.interpret import interpreted

        return interpreted(request)
    return artifact_of(only_kernel(build(request).kernels))


def _spec(file: str, kernel: str) -> Spec:
    from fp4rt.quantizing import FILE, spec_text

    if file == FILE:
        return read_spec(spec_text(kernel))
    known = {path.stem: path for path in sorted(recipes_dir().glob("*.fp4"))}
    if file not in known:
        raise RequestError(f"there is no file of recipes {file!r}; there are {', '.join(known)}")
    return read_spec(known[file])
