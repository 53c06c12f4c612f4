"""The content-addressed cache of compiled kernels."""

from __future__ import annotations

from fp4cc.cache.keys import compiler_fingerprint, digest
from fp4cc.cache.store import Entry, Store, cache_dir

__all__ = ["Entry", "Store", "cache_dir", "compiler_fingerprint", "digest"]
