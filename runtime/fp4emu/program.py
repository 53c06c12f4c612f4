"""An entry, ready to run: its flow, and the code of its blocks, made when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fp4emu.flow import Flow
from fp4emu.generate import Specialised, compile_block
from fp4emu.names import SymbolNames
from fp4emu.ptx.tree import Function
from fp4emu.representation import Context
from fp4emu.symbols import Symbols


@dataclass(slots=True)
class Program:
    """`specialised` is keyed by block, context and the kinds of the `tracked` registers. `observed`: its code tells who
    watches the order of accesses what it does; `recorded`: it tells a recording which instruction runs."""

    flow: Flow
    symbols: Symbols
    observed: bool = False
    recorded: bool = False
    specialised: dict[Any, Specialised] = field(default_factory=dict[Any, Specialised])

    @classmethod
    def build(cls, function: Function, symbols: Symbols, *, observed: bool = False, recorded: bool = False) -> Program:
        return cls(Flow.build(function), symbols, observed, recorded)

    @property
    def function(self) -> Function:
        return self.flow.function

    def specialise(self, block: int, context: Context, kinds: tuple[Any, ...]) -> Specialised:
        """The block's code for these kinds of its `tracked` registers (None: never written)."""
        key = (block, context, kinds)
        found = self.specialised.get(key)
        if found is None:
            names, block_ = SymbolNames(self.symbols), self.flow.blocks[block]
            found = self.specialised[key] = compile_block(
                self.flow, names, block_, context, kinds, observed=self.observed, recorded=self.recorded
            )
        return found
