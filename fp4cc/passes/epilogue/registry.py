"""The plan's half of the epilogue's constructs, one line each. To add one: its file here, its line, its text half.

The text's half is in `fp4cc.codegen.epilogue`, with the same names, in `text.CONSTRUCTS`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fp4cc.ir.kernel import Arg, Value
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueOutput
from fp4cc.passes.epilogue.construct import Construct
from fp4cc.passes.epilogue.decoded import Decoded
from fp4cc.passes.epilogue.element_functions import Elements
from fp4cc.passes.epilogue.fake import FakeQuantize
from fp4cc.passes.epilogue.gathered import Gathered
from fp4cc.passes.epilogue.hadamard import Hadamard
from fp4cc.passes.epilogue.hoisted import Hoisted
from fp4cc.passes.epilogue.inputs import Inputs
from fp4cc.passes.epilogue.measure import Measure
from fp4cc.passes.epilogue.quantize import Quantize
from fp4cc.passes.epilogue.reduce import Reduce
from fp4cc.passes.epilogue.staged import StagedColumns
from fp4cc.passes.epilogue.stores import Stores
from fp4cc.passes.epilogue.tile_inputs import TileInputs
from fp4cc.passes.epilogue.uniform import Uniform
from fp4cc.passes.epilogue.unzipped import Unzipped
from fp4cc.passes.problem.unzip import Frame


@dataclass
class Constructs:
    """The constructs there are. Of those that claim something the first one gets it."""

    known: list[Construct] = field(default_factory=list[Construct])

    def maker(self, index: int, frame: Frame) -> Construct | None:
        """Who computes a value; None where nobody does."""
        return next((each for each in self.known if each.makes(index, frame)), None)

    def writer(self, arg: Arg, value: Value, frame: Frame) -> Construct:
        """Who writes an output. LookupError where nobody does."""
        for each in self.known:
            if each.stores(arg, value, frame):
                return each
        raise LookupError(f"no construct stores {arg.name}")

    def read(self, index: int, inputs: Inputs) -> EpilogueInput:
        """How a leaf is read. LookupError where nobody does."""
        for each in self.known:
            leaf = each.read(index, inputs)
            if leaf is not None:
                return leaf
        raise LookupError(f"no construct reads value {index}")

    def of_input(self, leaf: EpilogueInput) -> Construct:
        """Who reads an input."""
        return next(each for each in self.known if leaf.kind in each.reads)

    def of_output(self, output: EpilogueOutput) -> Construct:
        """Who writes an output."""
        return next(each for each in self.known if output.kind in each.writes)

    @contextmanager
    def also(self, construct: Construct) -> Generator[None]:
        """One more construct for a while, before all others. ValueError where its name is taken."""
        if construct.name in {other.name for other in self.known}:
            raise ValueError(f"there is a construct {construct.name}")
        self.known.insert(0, construct)
        try:
            yield
        finally:
            self.known.remove(construct)


#: In the order of their buffers in shared memory.
CONSTRUCTS = Constructs([
    Hoisted(), Gathered(), Unzipped(), TileInputs(), Decoded(), Uniform(), Elements(), FakeQuantize(), Quantize(),
    Reduce(), Measure(), StagedColumns(), Hadamard(), Stores(),
])  # fmt: skip
