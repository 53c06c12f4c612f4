"""Lowering products of few rows for Hopper: weights go from memory straight into the fragments of mma.sync."""
