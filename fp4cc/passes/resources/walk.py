"""The order in which clusters take tiles."""

from __future__ import annotations

from fp4cc.ir.lowered import Cluster, Grouped, Persistent, Problem, Tile, Walk
from fp4cc.ir.sizes import ceildiv, mul
from fp4cc.passes.problem.groups import most_tiles


def plan_walk(problem: Problem, tile: Tile, cluster: Cluster, asked: int | None) -> Walk:
    """Bands of about 8 tiles: clusters that run at the same time then share rows of A and columns of B in L2."""
    rows = tile.cta_m * cluster.m
    tiles_n = ceildiv(problem.n, tile.n * cluster.n)
    band = max(1, 8 // cluster.n) if asked is None else asked
    if isinstance(tiles_n, int) and band >= tiles_n:
        band = 0
    if problem.groups is not None:
        tiles_m = most_tiles(problem.m, rows, problem.groups)
        return Grouped(band, tiles_m, tiles_n, mul(tiles_m, tiles_n), rows, problem.groups)
    tiles_m = ceildiv(problem.m, rows)
    return Persistent(band, tiles_m, tiles_n, mul(tiles_m, tiles_n, problem.batch))
