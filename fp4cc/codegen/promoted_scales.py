"""The places of f32 scales as text, for the kernels that promote partial sums."""

from __future__ import annotations

from fp4cc.ir.lowered_promoted import PromotedScales


def factor_address(scales: PromotedScales, row: str) -> str:
    """The address of an operand's scale for a row and this step."""
    block = row if scales.rows == 1 else f"{row} // {scales.rows}"
    parts = [f"Int64({block}) * {scales.row_stride}"]
    if scales.step_stride:
        parts.append("k_tile")
    if scales.batch_stride is not None:
        parts.insert(0, f"Int64(batch) * {scales.batch_stride}")
    return f"global_address({scales.arg}_scales_ptr, {' + '.join(parts)}, 4)"
