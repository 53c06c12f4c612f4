"""An engine of sm_90a: FP8 multiplied as TMA brings it, its sums added in f32 every 128 along K."""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.ir.lowered.wgmma_rs import MMA_WARPS, WARPGROUP_WARPS

#: A row of FP8 of 128 bytes: its sums are added in f32, because the tensor core keeps fewer bits.
FP8_TILE_K = 128
#: Rows of an instruction.
INSTRUCTION_ROWS = 64
#: Warpgroups that multiply.
WARPGROUPS = MMA_WARPS // WARPGROUP_WARPS


@dataclass(frozen=True, slots=True)
class WgmmaFp8:
    """One product of FP8 by two warpgroups, each with partial sums of a step along K beside the sums of all of K.

    `rows`: of A in a stage. Of 128 a warpgroup has 64, by all columns of a tile. Fewer are all that there are: both
    warpgroups have them, by half of the columns each, and what follows them in a stage are zeros. `ordered`: they issue
    their products in turns, so that one multiplies while the other adds.
    """

    rows: int
    ordered: bool = False
    name: str = "wgmma_fp8"

    @property
    def few(self) -> bool:
        """Whether both warpgroups have the same rows."""
        return self.rows <= INSTRUCTION_ROWS

    @property
    def stage_rows(self) -> int:
        """Rows that instructions read of A in a stage."""
        return max(self.rows, INSTRUCTION_ROWS)

    def columns(self, tile_n: int) -> int:
        """Columns of an instruction; half as many are a thread's sums."""
        return tile_n // WARPGROUPS if self.few else tile_n
