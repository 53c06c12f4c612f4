"""The order of the axes that several operands have together: a rule that does not see the order of the operands.

Random numbers are drawn by logical index, so the order decides them. Each operand brings the orders that its own axes
had in the arguments it was computed from; all pairs of axes that those orders agree on keep that order, and everything
else is in the order of the dims in the kernel's head. Where orders contradict each other, the longer one counts; of
equally long ones, that which comes first by the head. The union of orders is the same however an expression is
grouped, and so are the axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import combinations
from typing import TypeAlias

Axes: TypeAlias = "tuple[str, ...]"
#: The orders of axes that a value was made from.
Orders: TypeAlias = "frozenset[Axes]"


def merged(orders: Iterable[Axes], dims: Axes) -> Axes:
    """All axes of `orders` in one order; `dims` are the kernel's, in the order of its head."""
    distinct = frozenset(orders)
    if len(distinct) == 1:
        return next(iter(distinct))
    return _merged(distinct, dims)


def restricted(orders: Orders, axes: Axes) -> Orders:
    """The orders of what is left of a value that keeps some of its axes."""
    return frozenset(tuple(a for a in order if a in axes) for order in orders)


@lru_cache(maxsize=1024)
def _merged(orders: Orders, dims: Axes) -> Axes:
    rank = {name: i for i, name in enumerate(dims)}

    def key(name: str) -> tuple[int, str]:
        return rank.get(name, len(rank)), name

    after: dict[str, set[str]] = {name: set() for order in orders for name in order}
    for order in sorted(orders, key=lambda order: (-len(order), [key(name) for name in order])):
        for first, second in combinations(order, 2):
            if second not in after[first] and not _leads(after, second, first):
                after[first].add(second)
    before = dict.fromkeys(after, 0)
    for following in after.values():
        for name in following:
            before[name] += 1
    ready = [key(name) for name, count in before.items() if count == 0]
    heapify(ready)
    found: list[str] = []
    while ready:
        name = heappop(ready)[1]
        found.append(name)
        for following in after[name]:
            before[following] -= 1
            if before[following] == 0:
                heappush(ready, key(following))
    return tuple(found)


def _leads(after: dict[str, set[str]], start: str, goal: str) -> bool:
    """Whether `goal` must come after `start`."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            waiting.extend(after[name])
    return False
