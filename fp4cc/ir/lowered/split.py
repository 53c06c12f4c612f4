"""K shared by CTAs: what a work item is where several of them make a tile."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.kernel import Expr

#: The word in shared memory by which one thread tells the others whether their part was the last to arrive.
SPLIT_WORDS = "split_words"
#: What `split_k auto` chooses from.
PARTS = (1, 2, 3, 4, 6, 8)
SUMS_PARAM = "split_sums_ptr"
ARRIVALS_PARAM = "split_arrivals_ptr"


@dataclass(frozen=True, slots=True)
class Split:
    """A work item is a tile and one of `parts` of its steps along K, `steps` of them (fewer of the last, or none).

    `threads` have the sums of a part in registers, `sums` each. The CTA that arrives last at a tile adds up all parts
    in their order and runs the epilogue. Which steps a part has follows from sizes and plan, never from the grid.
    `adds`: every part runs the epilogue by itself and adds what comes of it to the output, so that none waits or joins.
    """

    parts: Expr
    steps: Expr
    threads: int
    sums: int
    adds: bool = False

    @property
    def part_bytes(self) -> int:
        """Of the partial sums of a part of a tile."""
        return 4 * self.threads * self.sums

    @property
    def may_be_whole(self) -> bool:
        """Whether there may be a single part: the sizes of a call decide."""
        return not isinstance(self.parts, int)
