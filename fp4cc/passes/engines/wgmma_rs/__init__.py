"""Lowering for Hopper where a plain operand meets weights: those become wgmma's A, in registers."""
