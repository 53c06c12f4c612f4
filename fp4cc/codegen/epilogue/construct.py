"""What an epilogue is made of: constructs, each with its part of the text at every hook.

All constructs share an `Epilogue`, through which they find each other's names. The hooks are called one after the other
in the order in which `Construct` has them, each for all constructs in the order of the registry
(`fp4cc.codegen.epilogue.text.CONSTRUCTS`). The plan's half of a construct, with the same name, is in
`fp4cc.passes.epilogue`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fp4cc.codegen.epilogue.elements import Argument, Column, Scalar
from fp4cc.codegen.epilogue.hooks import Walk
from fp4cc.codegen.epilogue.values import ValuePrinter
from fp4cc.codegen.fragments import Fragment, Function
from fp4cc.codegen.mainloops import numbered
from fp4cc.codegen.names import Names
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.lowered_epilogue import EpilogueInput, EpilogueProgram, Scope


@dataclass(slots=True)
class Epilogue:
    """What the constructs of one text know of each other.

    printer   knows the names of values that are there once a kernel, a tile or a row
    vectors   values that are there for a sub-tile's columns: their list's name
    results   stored values: their list's name
    points    transforms through shared memory: the name of the list that they take
    guarded   inputs that are not always read: the condition
    factors   outputs whose factor is not a line's own: the statements that find it for this thread's line
    steps     statements that make a sub-tile's lists, in order; a walk has those that it needs
    """

    lowered: LoweredKernel
    names: Names
    printer: ValuePrinter
    vectors: dict[int, str] = field(default_factory=dict[int, str])
    results: dict[int, str] = field(default_factory=dict[int, str])
    points: dict[int, str] = field(default_factory=dict[int, str])
    guarded: dict[int, str] = field(default_factory=dict[int, str])
    factors: dict[str, Fragment] = field(default_factory=dict[str, Fragment])
    steps: list[Fragment] = field(default_factory=list[Fragment])
    constructs: Sequence[Construct] = ()

    @property
    def program(self) -> EpilogueProgram:
        """The plan."""
        return self.lowered.epilogue

    @property
    def kernel(self) -> Kernel:
        """The typed kernel as the epilogue sees it."""
        return self.program.kernel

    @property
    def named(self) -> dict[int, str | None]:
        """The names that the spec gives to statements."""
        return {s.value: s.name for s in self.program.statements}

    def statements(self, scope: Scope) -> list[int]:
        """The values of a scope, in order."""
        return [s.value for s in self.program.statements if s.scope == scope]

    def inputs(self, kind: str) -> list[EpilogueInput]:
        """The inputs of a kind."""
        return [leaf for leaf in self.program.inputs if leaf.kind == kind]

    def argument(self, value: int) -> Argument:
        """What a function of one element takes for a value. KeyError for one that is not there yet."""
        if value in self.vectors:
            return Column(self.vectors[value])
        if value in self.program.accumulators:
            return Column(f"acc{numbered(self.program.accumulators.index(value))}")
        return Scalar(self.printer.known[self.printer.resolve(value)])

    def title(self, value: int) -> str:
        """A name for a value: that of the input that it is, or one made for it."""
        value = self.printer.resolve(value)
        return next((leaf.name for leaf in self.program.inputs if leaf.value == value), self.printer.title(value))


class Construct:
    """A part of an epilogue. Each hook says what it puts at a place of the kernel; most put nothing at most of them."""

    #: That of its plan's half.
    name: ClassVar[str]

    def __init__(self, epilogue: Epilogue) -> None:
        self.epilogue = epilogue
        self.lowered, self.program, self.kernel = epilogue.lowered, epilogue.program, epilogue.kernel
        self.names, self.printer = epilogue.names, epilogue.printer

    def setup(self) -> Fragment:
        """Once, before the first tile."""
        return ()

    def rows(self) -> Fragment:
        """Once a tile, first: values of the tile and of this thread's row."""
        return ()

    def ahead(self) -> Fragment:
        """Once a tile: what takes long and is waited for later."""
        return ()

    def per_tile(self) -> Fragment:
        """Once a tile, after that."""
        return ()

    def lists(self) -> None:
        """Append to `Epilogue.steps` what makes lists of a sub-tile's values, and tell their names."""

    def functions(self) -> Sequence[Function]:
        """Functions at module level."""
        return ()

    def walks(self) -> Sequence[Walk]:
        """Walks over a panel before the one that stores."""
        return ()

    def per_subtile(self) -> Fragment:
        """In the walk that stores, once the lists are there."""
        return ()

    def panel_end(self) -> Fragment:
        """Once a panel. One barrier is enough for all: the last construct's is taken."""
        return ()

    def tile_end(self) -> Fragment:
        """Once a tile, after its last sub-tile."""
        return ()

    def finish(self) -> Fragment:
        """Once, after the last tile."""
        return ()


class Transform(Construct, ABC):
    """A construct that makes a list of a sub-tile's values of another one, outside the functions of one element."""

    #: What it does with what it takes, for a docstring.
    takes: str = ""
    #: What its result is called where the spec does not say.
    made: str = ""

    @abstractmethod
    def values(self) -> list[int]:
        """The values that it makes."""

    @abstractmethod
    def operand(self, value: int) -> int:
        """The value that it takes for one of them."""

    @abstractmethod
    def call(self, value: int, x: str) -> str:
        """The list of a value, of the list `x`."""

    def functions_of(self, value: int) -> Sequence[Function]:
        """The functions that the call needs."""
        return ()
