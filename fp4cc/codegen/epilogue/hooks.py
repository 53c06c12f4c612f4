"""What the epilogue's code generator hands to a kernel template: a fragment for each hook.

The kernel template places the pieces; the names in scope at each hook are listed in `fp4cc.ir.lowered`. Shared memory
buffers, tensor maps and parameters are declared by the template from the lowered kernel, so a piece just uses their
names. No piece may leave an mbarrier wait or a CTA-wide barrier in divergent code: the four epilogue warps run each
hook, but a warp with no valid row may skip its stores.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4cc.codegen.fragments import Fragment, Function, uses


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk over a panel of a tile's columns before the one that stores: for each sub-tile, then once at its end."""

    what: str  # a comment
    subtile: Fragment
    end: Fragment


@dataclass(frozen=True, slots=True)
class EpilogueText:
    """Text of the epilogue.

    functions  module level: quantizers, and `element`, the spec's epilogue for one element
    kernel     once, in the epilogue warps, before the first tile: scalars, values of scope "kernel"
    tile       once a tile: row vectors, staged column vectors, values of scope "tile" and "row"
    walks      for each panel, before its sub-tiles are stored; `panel0` is its first column
    subtile    for each sub-tile, after `acc` was read from tensor memory: computes and stores it
    whole      the same in a walk of its own where none of the parameters `whole_if` is 0: all of it leaves by TMA
    short      whether little is done for a sub-tile, so that two at a time are little too
    panel_end   once a panel, after its last sub-tile was stored
    tile_end   once a tile, after its last sub-tile
    finish     once, after the last tile: waits for stores that still read shared memory
    """

    functions: tuple[Function, ...]
    kernel: Fragment
    tile: Fragment
    subtile: Fragment
    tile_end: Fragment
    finish: Fragment
    walks: tuple[Walk, ...] = ()
    panel_end: Fragment = ()
    whole: Fragment = ()
    whole_if: tuple[str, ...] = ()
    short: bool = False

    @property
    def uses(self) -> frozenset[str]:
        """The names that the pieces inside the kernel read."""
        walks = [part for walk in self.walks for part in (walk.subtile, walk.end)]
        pieces = (self.kernel, self.tile, *walks, self.subtile, self.whole, self.panel_end, self.tile_end, self.finish)
        return frozenset[str]().union(*(uses(piece) for piece in pieces))
