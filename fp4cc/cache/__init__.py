"""The content-addressed cache of compiled kernels."""

from __future__ import annotations

from fp4cc.cache.keys import compiler_fingerprint, digest
from fp4cc.cache.store import DEFAULT_SIZE, Entry, Store, Usage, cache_dir, cache_limit

__all__ = ["DEFAULT_SIZE", "Entry", "Store", "Usage", "cache_dir", "cache_limit", "compiler_fingerprint", "digest"]
