"""What an edit of a spec changes: numerics, layout, interface, or only the schedule."""

from fp4cc.diff.changes import ASPECTS, Aspect, Change, KernelChanges
from fp4cc.diff.kernels import compare

__all__ = ["ASPECTS", "Aspect", "Change", "KernelChanges", "compare"]
