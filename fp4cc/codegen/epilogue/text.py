"""The text of an epilogue: what a kernel template puts at each of its hooks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from fp4cc.codegen.epilogue.construct import Construct, Epilogue
from fp4cc.codegen.epilogue.decoded import Decoded
from fp4cc.codegen.epilogue.element_functions import Elements, result_names
from fp4cc.codegen.epilogue.fake import FakeQuantize
from fp4cc.codegen.epilogue.hadamard import Hadamard
from fp4cc.codegen.epilogue.hoisted import Hoisted
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.epilogue.measure import Measure
from fp4cc.codegen.epilogue.quantize import Quantize
from fp4cc.codegen.epilogue.reduce import Reduce
from fp4cc.codegen.epilogue.slices import needed
from fp4cc.codegen.epilogue.staged import StagedColumns
from fp4cc.codegen.epilogue.stores import Stores
from fp4cc.codegen.epilogue.tile_inputs import TileInputs
from fp4cc.codegen.epilogue.uniform import Uniform
from fp4cc.codegen.epilogue.unzipped import Unzipped
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.fragments import Fragment, fragment, uses
from fp4cc.codegen.names import Names
from fp4cc.ir.lowered import LoweredKernel

#: What epilogues are made of: the text's half, with the names of `fp4cc.passes.epilogue.registry`. A construct stands
#: after those whose names it uses.
CONSTRUCTS: list[type[Construct]] = [
    Hoisted, Unzipped, StagedColumns, TileInputs, Decoded, Uniform, Elements, FakeQuantize, Quantize, Hadamard, Measure,
    Reduce, Stores,
]  # fmt: skip


@contextmanager
def also(construct: type[Construct]) -> Generator[None]:
    """The text half of one more construct for a while, after all others. ValueError where there is one."""
    if construct.name in {other.name for other in CONSTRUCTS}:
        raise ValueError(f"there is text of the construct {construct.name}")
    CONSTRUCTS.append(construct)
    try:
        yield
    finally:
        CONSTRUCTS.remove(construct)


def emit_epilogue(lowered: LoweredKernel, names: Names) -> EpilogueText:
    """The epilogue's text, with marks of `names`. LookupError for a plan with a construct that has no text half."""
    if not lowered.epilogue.outputs:  # what has no epilogue stores by itself
        return EpilogueText((), (), (), (), (), (), (), ())
    lacking = [name for name in lowered.epilogue.constructs if name not in {each.name for each in CONSTRUCTS}]
    if lacking:
        raise LookupError(f"no text of the constructs {', '.join(lacking)}")
    epilogue = Epilogue(lowered, names, ValuePrinter(lowered.epilogue.kernel))
    epilogue.results = result_names(epilogue)
    constructs = epilogue.constructs = [construct(epilogue) for construct in CONSTRUCTS]

    def at(hook: Callable[[Construct], Fragment]) -> Fragment:
        return fragment(*(hook(construct) for construct in constructs))

    setup = at(lambda construct: construct.setup())
    tile = [at(lambda construct: construct.rows()), at(lambda construct: construct.ahead())]
    tile.append(at(lambda construct: construct.per_tile()))
    for construct in constructs:
        construct.lists()
    stored = at(lambda construct: construct.per_subtile())
    stores = next(construct for construct in constructs if isinstance(construct, Stores))
    whole = stores.whole_subtile() if stores.whole_if else ()
    return EpilogueText(
        functions=tuple(function for construct in constructs for function in construct.functions()),
        kernel=setup,
        tile=fragment(*tile),
        walks=tuple(walk for construct in constructs for walk in construct.walks()),
        subtile=fragment(needed(epilogue.steps, {*epilogue.results.values(), *uses(stored)}), stored),
        whole=fragment(needed(epilogue.steps, {*epilogue.results.values(), *uses(whole)}), whole) if whole else (),
        whole_if=stores.whole_if,
        short=stores.is_whole,
        panel_end=next((end for construct in reversed(constructs) if (end := construct.panel_end())), ()),
        tile_end=at(lambda construct: construct.tile_end()),
        finish=at(lambda construct: construct.finish()),
    )
