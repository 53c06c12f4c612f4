"""Chains of kernels: what one writes is, byte for byte, what the next reads."""

from fp4cc.chain.check import Chain, check_chain
from fp4cc.chain.links import End, Link

__all__ = ["Chain", "End", "Link", "check_chain"]
