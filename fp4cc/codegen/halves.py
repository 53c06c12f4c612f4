"""Where the elements of a half of an axis lie on the whole axis, as text."""

from __future__ import annotations

from fp4cc.ir.lowered_epilogue import Half


def whole_index(half: Half | None, index: str, size: str, step: int) -> str:
    """The number on the whole axis of element `index` of a half, which has `size` elements; `step` divides it."""
    if half is None:
        return index
    if half.group is None:
        return f"{index} + {size}" if half.part else index
    group = half.group
    atom = f"({index})" if "+" in index else index
    first = f"2 * {atom}" if step % group == 0 else f"{atom} // {group} * {2 * group} + {atom} % {group}"
    return f"{first} + {group}" if half.part else first
