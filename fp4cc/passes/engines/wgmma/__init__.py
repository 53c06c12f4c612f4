"""Lowering for Hopper: operands are converted in shared memory and multiplied by wgmma."""
