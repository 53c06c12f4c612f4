"""What names mean in an operand: the address of a variable or a parameter, or a special register."""

from __future__ import annotations

from dataclasses import dataclass

from fp4emu.builder import Builder
from fp4emu.representation import Value
from fp4emu.special import PER_CTA, PER_LANE, PER_RANK, PER_WARP, SPECIAL, VOLATILE, WIDE, special
from fp4emu.symbols import Symbols


@dataclass(frozen=True, slots=True)
class SymbolNames:
    """The names of one entry."""

    symbols: Symbols

    def value(self, builder: Builder, name: str, bits: int) -> Value:
        """A name as a source operand: the address of a variable, or a special register."""
        if name.startswith("%"):
            return self._special(builder, name)
        if name in self.symbols.shared:
            kind = "U" if builder.context.single_rank else "W"
            address = f"(g.rank_base + {self.symbols.shared[name][0]})"
            return Value(kind, bits, {"u": address if kind == "U" or bits == 32 else f"{address}.astype(U8)"})
        if name in self.symbols.params:
            return Value("U", bits, {"u": f"(g.grid.param_address + {self.symbols.params[name][0]})"})
        if name in self.symbols.addresses:
            return Value("U", bits, {"u": str(self.symbols.addresses[name])})
        if name in self.symbols.local:
            return Value("V", bits, {"u": f"({builder.constant(special)}(g, 'local') + {self.symbols.local[name]})"})
        raise builder.error(f"{name} is not declared")

    def _special(self, builder: Builder, name: str) -> Value:
        if name not in SPECIAL:
            builder.fail(f"the special register {name} is not emulated")
        context = builder.context
        kind = "U"
        if name in PER_LANE:
            kind = "V"
        elif name in PER_WARP:
            kind = "U" if context.single_row else "W"
        elif name in PER_CTA:
            kind = "U" if context.single_cta else "W"
        elif name in PER_RANK:
            kind = "U" if context.single_rank else "W"
        bits = 64 if name in WIDE else 32
        read = f"g.grid.timer({name!r})" if name in VOLATILE else f"{builder.constant(special)}(g, {name!r})"
        if name == "%is_explicit_cluster":
            return Value("U", 1, {"b": read})
        return Value(kind, bits, {"u": read})
