"""Invariants of products of few rows: warps that have K and a tile's columns between them, and where sums meet."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Decode, FewRows, LoweredKernel

_WARP = 32
#: Columns that one mma.sync makes, as rows of its left operand (PTX ISA, mma.sync, m16n8k16).
_MMA_COLUMNS = 16
#: Threads and registers of an SM (CUDA programming guide, compute capability 9.0), and the least that ptxas can use.
_THREADS, _REGISTERS, _LEAST = 2048, 64 * 1024, 24
#: Sums are read and zeroed so many bytes at a time.
_ACCESS = 16


def decode_problems(lowered: LoweredKernel) -> Iterator[str]:
    """What is wrong with a kernel of this engine."""
    engine, tile, threads = lowered.engine_as(Decode), lowered.tile, lowered.launch.threads
    columns = len(lowered.products.accumulators) * tile.n
    pairs = [(product.a.arg, product.b.arg) for product in lowered.products.products]
    if [(x.operand.arg, w.operand.arg) for x, w in engine.pairs] != pairs:
        yield "lanes read other operands than the products have"
    if engine.columns % _MMA_COLUMNS or tile.n % engine.columns:
        yield f"warps of {engine.columns} columns do not make a tile of {tile.n}"
    elif threads != _WARP * engine.shares * (columns // engine.columns):
        yield f"{threads} threads are not {engine.shares} shares of {columns} columns, {engine.columns} a warp"
    if any(mainloop.tile_k != engine.step for mainloop in lowered.mainloops):
        yield f"a step of a mainloop is not the {engine.step} elements that lanes take"
    if lowered.cluster.size != 1:
        yield f"warps of {lowered.cluster.size} CTAs cannot add up their sums"
    if engine.ctas * threads > _THREADS or engine.ctas * threads * _LEAST > _REGISTERS:
        yield f"{engine.ctas} CTAs of {threads} threads are more than an SM holds"
    if lowered.products.groups is None and isinstance(lowered.products.m, int) and lowered.products.m > engine.rows:
        yield f"{lowered.products.m} rows, and {engine.rows} are made"
    yield from _sums(lowered, engine, columns)


def _sums(lowered: LoweredKernel, engine: Decode, columns: int) -> Iterator[str]:
    """Each share's rows, then one of zeros, which one access of each thread makes."""
    exchange = lowered.exchange
    if not isinstance(exchange, FewRows):
        yield "the shares of a sum meet nowhere"
        return
    if exchange.rows != engine.shares * engine.rows + 1:
        yield f"{exchange.rows} rows of sums are not {engine.shares} shares of {engine.rows}, and one of zeros"
    if exchange.pitch < 4 * columns or exchange.pitch % _ACCESS:
        yield f"rows of sums {exchange.pitch} bytes apart have {columns} columns"
    if exchange.pitch > _ACCESS * lowered.launch.threads:
        yield f"{lowered.launch.threads} threads do not zero a row of {exchange.pitch} bytes"
