"""The order in which a launch may leave 32 numbers of a row for one that multiplies them by weights in registers.

A lane of four has columns 2t, 2t + 1, 2t + 8 and 2t + 9 of each 16 of A (PTX ISA, wgmma, register fragment of A). Where
the other operand lies in this order, those of 32 columns are eight neighbors of the weights: one load of them.
"""

from __future__ import annotations

#: At each place of 32 the column that lies there.
TURNED = tuple(
    8 * lane + 4 * half + 2 * part + i for half in range(2) for part in range(2) for lane in range(4) for i in range(2)
)
