"""Multicast masks as text: the plan's masks by rank, as functions of a CTA's place in its cluster.

The masks are decided in the passes; here is only how a kernel computes them, checked against them for every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fp4cc.ir.lowered import Cluster

#: What a mask may be shifted by, as text and as a function of m, n and the CTAs of the cluster along M.
_SHIFTS: dict[str, Callable[[int, int, int], int]] = {
    "": lambda m, n, width: 0,
    "cta_m": lambda m, n, width: m,
    "cta_m % 2": lambda m, n, width: m % 2,
    "(cta_n * CLUSTER_M)": lambda m, n, width: n * width,
    "(cta_n * CLUSTER_M + cta_m % 2)": lambda m, n, width: n * width + m % 2,
    "rank": lambda m, n, width: m + n * width,
}
#: The condition on a CTA, as text, by which only some issue a load.
_ISSUERS: dict[str, Callable[[int, int], bool]] = {
    "cta_m == 0": lambda m, n: m == 0,
    "cta_n == 0": lambda m, n: n == 0,
}


def mask_text(masks: Sequence[int], cluster: Cluster, *shifts: str) -> str:
    """The masks of the ranks that have one (others are 0): rank 0's, shifted by the first of `shifts` that gives all.

    Raises ValueError if none does: then the kernel would do other than the plan says.
    """
    for shift in shifts:
        if _fits(masks, cluster, {shift: masks[0]}):
            return _term(masks[0], shift)
    raise ValueError(f"no shift by {' or '.join(shifts)} gives the masks {masks} of a cluster {cluster}")


def union_text(masks: Sequence[int], cluster: Cluster, group: int) -> str:
    """The masks of leaders of `group` CTAs: all that share rows with their group, and all that share its column.

    Raises ValueError if the plan has other masks.
    """
    if _fits(masks, cluster, {"": masks[0]}):
        return _term(masks[0], "")
    bits = [bit for bit in range(cluster.size) if masks[0] >> bit & 1]
    rows = sum(1 << bit for bit in bits if bit % cluster.m < group)
    column = sum(1 << bit for bit in bits if bit < cluster.m)
    terms = {"cta_m": rows, "(cta_n * CLUSTER_M)": column}
    if not _fits(masks, cluster, terms):
        raise ValueError(f"rows and columns do not give the masks {masks} of a cluster {cluster}")
    return " | ".join(_term(bits, shift) for shift, bits in terms.items())


def issuer_text(masks: Sequence[int], cluster: Cluster) -> str | None:
    """The condition on a CTA by which it issues a load; None where all do. Raises ValueError for any other set."""
    if all(masks):
        return None
    for text, holds in _ISSUERS.items():
        if all((mask != 0) == holds(*_place(rank, cluster)) for rank, mask in enumerate(masks)):
            return text
    raise ValueError(f"no condition gives the ranks that have one of the masks {masks} of a cluster {cluster}")


def _place(rank: int, cluster: Cluster) -> tuple[int, int]:
    return rank % cluster.m, rank // cluster.m


def _fits(masks: Sequence[int], cluster: Cluster, terms: dict[str, int]) -> bool:
    """Whether the union of the terms is the mask of every rank that has one."""
    for rank, mask in enumerate(masks):
        found = 0
        for shift, bits in terms.items():
            found |= bits << _SHIFTS[shift](*_place(rank, cluster), cluster.m)
        if mask not in (0, found):
            return False
    return masks[0] != 0


def _term(bits: int, shift: str) -> str:
    return f"{bits:#b} << {shift}" if shift else f"{bits:#b}"
