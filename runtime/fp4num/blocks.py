"""The work of `quantize`: blocks measured, scaled and encoded, a cache-sized piece of the tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num import philox, stats
from fp4num.codecs import Floats, decode, encode
from fp4num.formats import BlockFormat
from fp4num.groups import group_rows
from fp4num.ops import Numpy
from fp4num.rules import Factors, FourOverSix, Rule

#: Elements that are quantized at once, about: temporaries then stay in cache.
_CHUNK = 1 << 17


@dataclass(slots=True)
class Job:
    """One call of `quantize`: what every chunk needs."""

    fmt: BlockFormat
    rule: Rule
    factors: Factors[Any]
    rng: ArrayLike | None
    stream: int
    #: The first row of each group of a ragged tensor and the end of the last one: blocks do not reach over groups.
    offsets: NDArray[np.int64] | None = None

    def run(self, x: Floats, given: Floats | None) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Codes, one a byte, in the shape of `x`, and the scales [batch, block row, block column]."""
        f = self.fmt
        grid = f.block_grid(x.shape)
        rows = x.shape[-2] if x.ndim > 1 else 1
        columns = x.shape[-1]
        flat = x.reshape(grid.batches, rows, columns)
        offsets = np.array([0, rows]) if self.offsets is None else self.offsets
        counts = group_rows(offsets, f.block[0])
        codes = np.empty(flat.shape, np.uint8)
        scales = np.zeros((grid.batches, int(counts.sum()), grid.columns), np.float32 if f.scale == "f32" else np.uint8)
        for b in range(grid.batches):
            at = 0  # the group's first block row
            for (low, high), count in zip(pairwise(offsets.tolist()), counts.tolist(), strict=True):
                tall = high - low if f.block[0] == "all" else f.block[0]
                step = max(1, _CHUNK // max(1, tall * columns))  # block rows a chunk
                for i in range(0, count if high > low and columns else 0, step):
                    part = slice(low + i * tall, min(low + (i + step) * tall, high))
                    blocks = slice(at + i, at + min(i + step, count))
                    first = (b * rows + part.start) * columns
                    chosen = None if given is None else given[b, blocks]
                    codes[b, part], scales[b, blocks] = self.chunk(flat[b, part], tall, first, chosen)
                at += count
        return codes, scales

    def chunk(self, x: Floats, tall: int, first: int, given: Floats | None) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Whole block rows [rows, columns] of one batch; `first` is the logical index of their first element."""
        f = self.fmt
        wide = x.shape[1] if f.block[1] == "all" else f.block[1]
        if given is not None:
            return self.codes(x, given, tall, wide, first), given
        o, measured = Numpy(), stats.of(self.rule.statistic, x, tall, wide)
        scale = np.asarray(self.rule.scale(o, measured, self.factors, f))
        codes = self.codes(x, scale, tall, wide, first)
        if not isinstance(self.rule, FourOverSix):
            return codes, scale
        other = np.asarray(self.rule.alternative(o, measured, self.factors, f))
        other_codes = self.codes(x, other, tall, wide, first)
        better = self.errors(x, other_codes, other, tall, wide) < self.errors(x, codes, scale, tall, wide)
        wider = np.repeat(_spread(better, tall, x.shape[0]), wide, axis=1)
        return np.where(wider, other_codes, codes), np.where(better, other, scale)

    def codes(self, x: Floats, scale: NDArray[Any], tall: int, wide: int, first: int) -> NDArray[np.uint8]:
        """The codes of x under the blocks' scales."""
        factor = np.asarray(self.rule.factor(Numpy(), scale, self.factors, self.fmt), np.float32)
        factor = _spread(factor, tall, x.shape[0])[..., None]
        blocks = x.reshape(x.shape[0], -1, wide)
        scaled = blocks * factor if self.rule.element_op == "mul" else blocks / factor
        if self.rng is None:
            codes = encode(scaled, self.fmt.element)
        else:
            random = philox.random_bytes(first, x.size, self.rng, self.stream).reshape(scaled.shape)
            codes = encode(scaled, self.fmt.element, "stochastic", random)
        return codes.reshape(x.shape).astype(np.uint8, copy=False)

    def errors(self, x: Floats, codes: NDArray[np.uint8], scale: NDArray[Any], tall: int, wide: int) -> Floats:
        """The error of every block, summed in the order that `FourOverSix` states."""
        assert isinstance(self.rule, FourOverSix)
        rows, columns = x.shape
        spread = np.repeat(_spread(scale, tall, rows), wide, axis=1)
        terms = self.rule.error(Numpy(), x, decode(codes, self.fmt.element), spread, self.factors, self.fmt)
        terms = np.pad(terms, ((0, -rows % tall), (0, 0))).reshape(-1, tall, columns // wide, wide)
        sums = np.zeros(terms.shape[:-1], np.float32)
        for i in range(wide):
            sums += terms[..., i]
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        return sums[:, 0]


def _spread(blocks: NDArray[Any], tall: int, rows: int) -> NDArray[Any]:
    """A value of each block row repeated over its rows."""
    return blocks if tall == 1 else np.repeat(blocks, tall, axis=0)[:rows]
