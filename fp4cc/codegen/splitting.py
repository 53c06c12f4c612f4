"""K shared by CTAs, as text."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.lowered import LoweredKernel


@dataclass(frozen=True, slots=True)
class SplitText:
    """`item`, `tile`: the number of this CTA's part of a tile, and of the tile. `stride`: bytes from part to part.

    `thread`: the number of one that has sums, of `threads`; `first`: the condition for the first warp of them.
    `may_be_whole`: there may be one part, which needs no workspace. `joins`: the parts' sums meet before the epilogue.
    """

    item: str
    tile: str
    part_bytes: int
    stride: int
    thread: str
    first: str
    threads: int
    sums: int
    may_be_whole: bool
    joins: bool

    @property
    def step_bytes(self) -> int:
        """From four sums of a thread to its next four: all threads' lie side by side."""
        return 16 * self.threads

    @property
    def groups(self) -> int:
        """Groups of 32 sums of a thread, as tensor memory gives them."""
        return self.sums // 32

    @property
    def group_bytes(self) -> int:
        """From one of them to the next."""
        return 8 * self.step_bytes


def split_text(lowered: LoweredKernel, thread: str, first: str, rank: str = "cta_m") -> SplitText | None:
    """What the templates say; None where a CTA has all of K. `rank`: the CTA's number in a cluster of several."""
    split, ctas = lowered.split, lowered.cluster.size
    if split is None:
        return None
    item, tile = ("item", "tile") if ctas == 1 else (f"item * {ctas} + {rank}", f"tile * {ctas} + {rank}")
    return SplitText(
        item, tile, split.part_bytes, split.part_bytes * ctas, thread, first, split.threads, split.sums,
        split.may_be_whole, not split.adds,
    )  # fmt: skip


def steps_text(lowered: LoweredKernel, k_tiles: str, times: int = 1) -> str:
    """What goes over a work item's steps along K, `times` of each."""
    head = f"{times} * " if times > 1 else ""
    return f"{head}{k_tiles}" if lowered.split is None else f"{head}k_first, {head}k_end"
