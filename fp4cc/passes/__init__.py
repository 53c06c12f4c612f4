"""From a typed kernel to a lowered one.

A room for each concern, in this order: a room imports those before it, never one after it (tests/packaging).

    problem    what a kernel computes: products, axes, halves, divisibility
    epilogue   what becomes of the sums, and how often each value is made
    rewrites   typed kernels into typed kernels: launches, names, scales of rows
    resources  shared memory, tensor maps, parameters, the grid
    feeds      how operands and scales reach what multiplies them
    choice     schedules: what is asked for, what is chosen, and why
    engines    what multiplies, a folder each; they do not know each other
"""

from __future__ import annotations

from fp4cc.passes.lower import lower

__all__ = ["lower"]
