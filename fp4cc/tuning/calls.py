"""The calls that are tuned: their sizes, and the condition under which a schedule block is for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.driver.request import RequestError
from fp4cc.explain.plans import tabulated
from fp4cc.ir.kernel import Expr, Kernel
from fp4cc.ir.serialize import to_typed
from fp4rt.bench import calls_of
from fp4rt.signature import complete_dims


@dataclass(frozen=True, slots=True)
class Asked:
    """A call: the size of each dim that is not derived (`every`: and of those that are).

    A block for it holds where `low < dim <= high` and the dims in `others` have these sizes.
    """

    sizes: Mapping[str, int]
    every: Mapping[str, int]
    dim: str
    low: int
    high: int
    others: Mapping[str, int]

    def condition(self, kernel: Kernel) -> Expr | None:
        """The condition over the dims that the kernel leaves open; None where there is none."""
        open_ = {d.name for d in kernel.dims if d.value is None and d.expr is None}
        return condition(self.dim, self.low, self.high, {n: s for n, s in self.others.items() if n in open_})


def condition(dim: str, low: int, high: int, others: Mapping[str, int]) -> Expr | None:
    """`low < dim <= high`, and the sizes of the other dims, as an expression; None where nothing is asked."""
    parts: list[Expr] = []
    if dim and low:
        parts.append(("gt", dim, low))
    if dim:
        parts.append(("le", dim, high))
    parts += [("eq", name, size) for name, size in others.items()]
    return None if not parts else parts[0] if len(parts) == 1 else ("and", *parts)


def asked_calls(kernel: Kernel, given: Sequence[str]) -> list[Asked]:
    """The calls of `--set M=1,16 --set N=4096`: each combination, by the size of its rows.

    Of a size the schedule is taken for those below it, down to the next that is asked for, or to half of it: what is
    fast for 1024 rows says nothing of 8. Raises RequestError for what cannot be read, is no dim, or is missing.
    """
    try:
        calls = calls_of(given)
    except ValueError as error:
        raise RequestError(str(error)) from error
    dims = {d.name: d for d in kernel.dims}
    for name in calls[0]:
        if name not in dims:
            raise RequestError(f"{kernel.name} has no dimension {name}; dimensions: {', '.join(dims) or 'none'}")
        if dims[name].expr is not None:
            raise RequestError(f"{name} is derived from other dimensions; give those")
        if any(not 1 <= call[name] < 2**31 for call in calls):
            raise RequestError(f"a size of {name} is from 1 to {2**31 - 1}")
    missing = [d.name for d in kernel.dims if d.expr is None and d.value is None and d.name not in calls[0]]
    if missing:
        example = f"--set {missing[0]}=" + ("1,16,64" if missing[0] == tabulated(kernel, {}) else "4096")
        raise RequestError(f"tune needs sizes of {', '.join(missing)}: for example {example}")
    rows = tabulated(kernel, {}) or ""
    static = {d.name: d.value for d in kernel.dims if d.value is not None}
    found: dict[tuple[tuple[str, int], ...], Asked] = {}
    for call in sorted(calls, key=lambda call: call.get(rows, 0)):
        sizes = {d.name: call.get(d.name, static.get(d.name, 0)) for d in kernel.dims if d.expr is None}
        others = {name: size for name, size in call.items() if name != rows}
        below = [c[rows] for c in calls if rows and c[rows] < call[rows]]
        low, high = (max([call[rows] // 2, *below]), call[rows]) if rows else (0, 0)
        every = dict(complete_dims(to_typed(kernel), sizes))
        found[tuple(sizes.items())] = Asked(sizes, every, rows, low, high, others)
    groups: dict[tuple[tuple[str, int], ...], list[Asked]] = {}
    for each in found.values():
        groups.setdefault(tuple(each.others.items()), []).append(each)
    return [each for group in groups.values() for each in group]
