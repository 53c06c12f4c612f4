"""The reference: a typed kernel evaluated in numpy, the meaning that every kernel is compared with."""

from __future__ import annotations

from fp4rt.reference.interpreter import Environment, evaluate
from fp4rt.reference.tensor import Tensor

__all__ = ["Environment", "Tensor", "evaluate"]
