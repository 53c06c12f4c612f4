"""Random numbers by logical index: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

The state is two 64-bit words, (seed, offset). The key is the seed, low half first. The 128-bit counter holds, from its
lowest bit, the group index (48 bits), the stream (16 bits) and the offset (64 bits). A group is 16 elements for bytes
and 4 for uniforms, counted in row-major order over the logical shape: so a value depends on its element's place and on
nothing of how a kernel runs. Use another offset for each step, and another stream for each use in one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fp4num.errors import DataError

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: Sequence[int]) -> NDArray[np.uint32]:
    """Ten rounds: counters uint32 [.., 4] and a key of two 32-bit words to random words [.., 4]."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = (int(k) & 0xFFFFFFFF for k in key)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _HALF) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def random_words(first: int, groups: int, rng: ArrayLike, stream: int = 0) -> NDArray[np.uint32]:
    """Words uint32 [groups, 4] of the groups from index `first` on. `rng` is (seed, offset); stream is 0..65535."""
    seed, offset = _state(rng)
    if not 0 <= stream < 1 << 16:
        raise DataError(f"a random stream is 0 to 65535, not {stream}")
    if first < 0 or first + groups > 1 << 48:
        raise DataError(f"random groups are indexed from 0 to 2^48, not {first} to {first + groups}")
    index = np.arange(first, first + groups, dtype=np.uint64)
    counter = np.empty((groups, 4), np.uint32)
    counter[:, 0] = index & _LOW
    counter[:, 1] = (index >> _HALF) | np.uint64(stream << 16)
    counter[:, 2] = offset & 0xFFFFFFFF
    counter[:, 3] = offset >> 32
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))


def random_bytes(first: int, count: int, rng: ArrayLike, stream: int = 0) -> NDArray[np.uint8]:
    """Bytes of the elements `first` .. `first + count`: element i has byte i % 4 of word i / 4 % 4 of group i / 16."""
    start = first // 16
    words = random_words(start, -(-(first + count) // 16) - start, rng, stream)
    return words.astype("<u4").view(np.uint8).reshape(-1)[first - 16 * start :][:count]


def uniform(shape: Sequence[int], rng: ArrayLike, stream: int = 0) -> NDArray[np.float32]:
    """Uniform float32 in [0, 1), multiples of 2^-24: element i has the top 24 bits of word i % 4 of group i / 4."""
    count = int(np.prod(shape, dtype=np.int64))
    words = random_words(0, -(-count // 4), rng, stream).reshape(-1)[:count]
    return ((words >> 8).astype(np.float32) * np.float32(2.0**-24)).reshape(tuple(shape))


def _state(rng: ArrayLike) -> tuple[int, int]:
    words = [int(w) for w in np.asarray(rng, dtype=object).reshape(-1)]
    if len(words) != 2 or any(not 0 <= w < 1 << 64 for w in words):
        raise DataError(f"a random state is two unsigned 64-bit words, (seed, offset), not {rng!r}")
    return words[0], words[1]
