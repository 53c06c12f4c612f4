"""Products of matrices for the tensor-core instructions, on one thread.

numpy gives products to BLAS, which spreads larger ones over threads of its own. The products of one instruction are too
small to gain by that and lose much where the cores are busy, and a process that forks while such threads run has a
child that waits for them for ever. So a product is made in pieces that BLAS does not spread (OpenBLAS: up to 2^18
multiplications), and a fork waits for the piece that another thread is at.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

SINGLE = 1 << 18

_busy = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_busy.acquire, after_in_parent=_busy.release, after_in_child=_busy.release)


def multiply(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a @ b.T of [m, k] and [n, k], both f32 or both f64, in that precision."""
    (m, k), n = a.shape, len(b)
    result = np.empty((m, n), np.result_type(a, b))
    other = b.T
    wide = max(SINGLE // max(k, 1), 1)
    columns = min(n, wide)
    rows = max(wide // max(columns, 1), 1)
    for top in range(0, m, rows):
        for left in range(0, n, columns):
            with _busy:
                piece = result[top : top + rows, left : left + columns]
                np.matmul(a[top : top + rows], other[:, left : left + columns], out=piece)
    return result
