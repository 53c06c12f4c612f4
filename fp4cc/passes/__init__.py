"""From a typed kernel to a lowered one: legality for the target, schedule, memories, pipeline, epilogue plan."""

from __future__ import annotations

from fp4cc.passes.lower import lower

__all__ = ["lower"]
