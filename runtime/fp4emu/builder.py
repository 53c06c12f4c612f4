"""Generated Python for one specialised basic block.

A block is compiled once for each combination of what its live-in registers hold (`kinds`). A value is uniform ("U":
the same in all lanes of all
warps of the group, a Python int, bool or numpy scalar), per warp ("W": an array [row, 1]) or per lane ("V": an array
[row, lane]); a 64-bit register
may also be held as a pair of its halves, so that packing and unpacking cost nothing. Uniform values cost a Python
operation, the others a
numpy one for all warps of the group together.

How a value is represented is `fp4emu.representation`. Registers written under a partial mask are blended only if
another path of the group still reads the old value.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import numpy as np

from fp4emu import values
from fp4emu.errors import Fault, Place
from fp4emu.instruction import Address, Immediate, Instruction, Negated, Operand, Register, Symbol
from fp4emu.representation import FLOATS, SIGNED, UNSIGNED, Context, Value, computed, join, width_of
from fp4emu.shapes import NO_LANE, spread
from fp4emu.symbols import Symbols

LANE0 = np.zeros((1, 32), np.bool_)
LANE0[0, 0] = True
NOT_LANE0 = ~LANE0
LANES = np.arange(32, dtype=np.uint32).reshape(1, 32)

_FLOATS = ("float32", "float64", "bits32", "bits64", "canonical16", "canonical32", "canonical64", "fma32", "flush")
_WORDS = ("pack", "low32", "high32", "saturate", "vector", "shift_left", "shift_right")

#: What generated code can name besides its own variables and constants.
NAMESPACE: dict[str, Any] = {
    "U1": np.uint8,
    "U2": np.uint16,
    "U4": np.uint32,
    "U8": np.uint64,
    "S2": np.int16,
    "S4": np.int32,
    "S8": np.int64,
    "F2": np.float16,
    "F4": np.float32,
    "F8": np.float64,
    "np": np,
    "where": np.where,
    "LANE0": LANE0,
    "NOT_LANE0": NOT_LANE0,
    "LANES": LANES,
    "NO_LANE": NO_LANE,
    "spread": spread,
    "values": values,
    **{name: getattr(values, name) for name in (*_FLOATS, *_WORDS)},
}


class Names(Protocol):
    """What the names of an entry mean (`fp4emu.names`)."""

    @property
    def symbols(self) -> Symbols:
        """Where they lie."""
        ...

    def value(self, builder: Builder, name: str, bits: int) -> Value:
        """A name as a source operand."""
        ...


class Builder:
    """Collects the lines of a block's function. Families with style "emit" get it as their first argument."""

    def __init__(self, context: Context, slots: dict[str, int], names: Names) -> None:
        self.context = context
        self.slots = slots
        self.names = names
        self.symbols = names.symbols
        self.head: list[str] = []
        self.lines: list[tuple[str, Instruction | None]] = []
        self.known: dict[int, Value] = {}
        self.written: set[int] = set()
        self.namespace: dict[str, Any] = dict(NAMESPACE)
        self.current: Instruction | None = None
        self._serial = 0
        self._indent = "    "
        self._volatile = False
        self._interned: dict[int, str] = {}
        self.guard: Value | None = None
        self.ended = False

    # --- text ---

    def name(self) -> str:
        self._serial += 1
        return f"t{self._serial}"

    def emit(self, line: str) -> None:
        self.lines.append((self._indent + line, self.current))

    def assign(self, expression: str) -> str:
        name = self.name()
        self.emit(f"{name} = {expression}")
        return name

    def constant(self, thing: Any) -> str:
        """A name for any Python object inside the block."""
        found = self._interned.get(id(thing))
        if found is None:
            found = self._interned[id(thing)] = f"c{len(self._interned)}"
            self.namespace[found] = thing
        return found

    def error(self, message: str, hint: str = "") -> Fault:
        """A load-time fault at the current instruction."""
        ins = self.current
        return Fault(message, hint=hint, place=Place(line=ins.line, text=ins.text) if ins else None)

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """Raises the fault."""
        raise self.error(message, hint)

    # --- reading ---

    def load(self, slot: int, kind: Any, bits: int) -> None:
        """Declares a live-in register of a given run-time kind."""
        self.known[slot] = self._incoming(f"r[{slot}]", kind, bits)

    def _incoming(self, source: str, kind: Any, bits: int) -> Value:
        if kind[0] == "P":
            half = bits // 2
            return Value(
                "",
                bits,
                {},
                (self._incoming(source + "[0]", kind[1], half), self._incoming(source + "[1]", kind[2], half)),
            )
        return Value(kind[0], bits, {kind[1]: "@" + source})

    def register(self, operand: Register) -> Value:
        slot = self.slots[operand.name]
        found = self.known.get(slot)
        if found is None:
            bits = width_of(operand.type)
            found = self.known[slot] = Value("U", bits, {"b": "False"} if bits == 1 else {"u": "0"})
        return found

    def kind(self, value: Value) -> str:
        """How a value varies."""
        if value.parts:
            return join(self.kind(value.parts[0]), self.kind(value.parts[1]))
        return "V" if value.elect else value.kind

    def rep(self, value: Value, want: str) -> str:
        """The expression of a value in a representation."""
        reps = value.reps
        found = reps.get(want)
        if found is not None:
            if found[0] == "@":
                name = self.name()
                self.head.append(f"    {name} = {found[1:]}")
                reps[want] = found = name
            return found
        if value.elect:
            return "LANE0" if value.elect == "E" else "NOT_LANE0"
        if want == "b":
            self.fail("a predicate is needed here")
        text = self._convert(value, want)
        if not text.isidentifier() and not self._volatile:
            text = self.assign(text)
        if not self._volatile:
            reps[want] = text
        return text

    def _convert(self, value: Value, want: str) -> str:
        bits, uniform = value.bits, self.kind(value) == "U"
        if value.parts and not value.reps:
            low, high = (self.rep(part, "u") for part in value.parts)
            unsigned = f"({low} | {high} << {bits // 2})" if uniform or bits == 128 else f"pack({low}, {high}, {bits})"
            if want == "u":
                return unsigned
            return self._convert(Value(self.kind(value), bits, {"u": self.assign(unsigned)}), want)
        if want == "u":
            if "s" in value.reps:
                signed = self.rep(value, "s")
                return f"({signed} & {(1 << bits) - 1})" if uniform else f"{signed}.view({UNSIGNED[bits]})"
            real = self.rep(value, "f")
            if uniform:
                return f"bits{bits}({real})" if bits > 16 else f"int(canonical16(np.asarray({real})))"
            return f"canonical{bits}({real})"
        unsigned = self.rep(value, "u")
        if want == "s":
            sign = 1 << (bits - 1)
            if uniform:
                return f"(({unsigned} ^ {sign}) - {sign})"
            return f"{unsigned}.view({SIGNED[bits]})"
        if want == "f":
            if uniform:
                return f"float{bits}({unsigned})" if bits > 16 else f"U2({unsigned}).view(F2)"
            return f"{unsigned}.view({FLOATS[bits]})"
        raise self.error(f"no representation {want}")

    def halves(self, operand: Operand, bits: int = 64) -> tuple[Value, Value]:
        """The low and the high half of an operand of `bits` bits."""
        value = self.value(operand, bits)
        if value.bits != bits:
            self.fail(f"operand of {value.bits} bits where {bits} are needed")
        return self.halves_of(value)

    def halves_of(self, value: Value) -> tuple[Value, Value]:
        """The low and the high half of a value, kept with it."""
        if value.parts:
            return value.parts
        bits = value.bits
        text, kind, half = self.rep(value, "u"), self.kind(value), bits // 2
        if kind == "U":
            low, high = f"({text} & {(1 << half) - 1})", f"({text} >> {half})"
        elif bits == 64:
            low, high = f"low32({text})", f"high32({text})"
        elif bits == 32:
            low, high = f"{text}.astype(U2)", f"({text} >> U4(16)).astype(U2)"
        else:
            low, high = f"{text}.astype(U1)", f"({text} >> U2(8)).astype(U1)"
        value.parts = (Value(kind, half, {"u": self.assign(low)}), Value(kind, half, {"u": self.assign(high)}))
        return value.parts

    def value(self, operand: Operand, bits: int) -> Value:
        """An operand as a value; `bits` is the width that an immediate takes."""
        if isinstance(operand, Register):
            return self.register(operand)
        if isinstance(operand, Immediate):
            return self.immediate(operand, bits)
        if isinstance(operand, Negated):
            inner = self.value(operand.operand, 1)
            if inner.elect:
                return Value("V", 1, {}, None, "N" if inner.elect == "E" else "E")
            text = self.rep(inner, "b")
            return Value(inner.kind, 1, {"b": f"(not {text})" if inner.kind == "U" else f"(~{text})"})
        if isinstance(operand, Symbol):
            return self.names.value(self, operand.name, bits)
        if isinstance(operand, Address):
            base = self.value(operand.base, bits)
            return Value("U", bits, {"u": f"({self.rep(base, 'u')} + {operand.offset})"}) if operand.offset else base
        raise self.error("this operand cannot be a source here")

    def immediate(self, operand: Immediate, bits: int) -> Value:
        value = operand.value
        if operand.float_bits == 64 and bits == 32:
            value = values.bits32(values.float64(value).astype(np.float32))
        if bits == 1:
            return Value("U", 1, {"b": str(bool(value))})
        masked = value & ((1 << bits) - 1)
        reps = {"u": str(masked)}
        if bits > 8:
            reps["s"] = str(masked - (1 << bits) if masked >> (bits - 1) else masked)
        if bits == 32:
            reps["f"] = self.constant_float(values.float32(masked))
        elif bits == 64:
            reps["f"] = self.constant_float(values.float64(masked))
        return Value("U", bits, reps)

    def constant_float(self, value: Any) -> str:
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def source(self, operand: Operand, rep: str, bits: int) -> tuple[str, str]:
        """(expression, kind) of an operand."""
        value = self.value(operand, bits)
        if value.bits != bits:
            self.fail(f"operand of {value.bits} bits where {bits} are needed")
        return self.rep(value, rep), self.kind(value)

    # --- writing ---

    def mask(self) -> str:
        """The lanes that execute: "None" for all of them, else an expression for an array of 32 columns
        (`fp4emu.shapes`)."""
        context = {"F": "None", "E": "LANE0", "D": "m"}[self.context.mask]
        guard = self.guard
        if guard is None or self.kind(guard) == "U":
            return context
        if guard.elect:
            if guard.elect == "E" and context in ("None", "LANE0"):
                return "LANE0"
            text = self.rep(guard, "b")
            return text if context == "None" else f"({text} & {context})"
        text = self.rep(guard, "b")
        if context != "None":
            return self.assign(f"{text} & {context}")
        return text if self.kind(guard) == "V" else self.assign(f"spread({text})")

    def set(self, operand: Operand, kind: str, rep: str, expression: str, bits: int) -> None:
        """Writes a destination register from an expression."""
        if not isinstance(operand, Register):
            self.fail("the destination must be a register")
        if width_of(operand.type) != bits:
            self.fail(f"destination {operand.name} has {width_of(operand.type)} bits, the result {bits}")
        if not expression.isidentifier() and not expression.isdigit():
            expression = self.assign(expression)
        self.put(operand, Value(kind, bits, {rep: expression}))

    def put(self, operand: Operand, value: Value) -> None:
        """Makes a register hold a value, blended with the old one where lanes that do not execute keep theirs."""
        if not isinstance(operand, Register):
            self.fail("the destination must be a register")
        if self._volatile:
            self.fail("registers cannot be written inside of a guarded call")
        slot = self.slots[operand.name]
        old = self.known.get(slot)
        self.written.add(slot)
        keep = bool(self.context.keep >> slot & 1) and self.context.mask != "F"
        if old is None or (self.guard is None and not keep):
            self.known[slot] = value
            return
        self.known[slot] = self._blend(old, value, keep)

    def _blend(self, old: Value, new: Value, keep: bool) -> Value:
        if (old.parts and new.parts) or new.bits == 128:
            (old.parts, new.parts) = self.halves_of(old), self.halves_of(new)
            halves = (self._blend(old.parts[0], new.parts[0], keep), self._blend(old.parts[1], new.parts[1], keep))
            return Value("", new.bits, {}, halves)
        rep = "b" if new.bits == 1 else ("f" if computed(old) and computed(new) else "u")
        kinds = self.kind(old), self.kind(new)
        a, b = self.rep(old, rep), self.rep(new, rep)
        mask = "None"
        if keep:
            mask = self.mask()
        elif self.guard is not None and self.kind(self.guard) != "U":
            mask = self.rep(self.guard, "b")
        if self.guard is not None and self.kind(self.guard) == "U":
            flag = self.rep(self.guard, "b")
            if mask == "None":
                if kinds == ("U", "U"):
                    return Value("U", new.bits, {rep: self.assign(f"{b} if {flag} else {a}")})
                both = join(*kinds)
                a, b = self.widen(a, kinds[0], rep, new.bits), self.widen(b, kinds[1], rep, new.bits)
                return Value(both, new.bits, {rep: self.assign(f"where({flag}, {b}, {a})")})
            mask = f"({mask} if {flag} else NO_LANE)"
        a, b = self.widen(a, kinds[0], rep, new.bits), self.widen(b, kinds[1], rep, new.bits)
        mask_kind = "V" if keep or self.guard is None else self.kind(self.guard)
        return Value(join(mask_kind, *kinds), new.bits, {rep: self.assign(f"where({mask}, {b}, {a})")})

    def widen(self, text: str, kind: str, rep: str, bits: int) -> str:
        """A uniform operand as a numpy scalar, so that numpy keeps the dtype."""
        if kind != "U" or rep in ("f", "b"):
            return text
        return f"{UNSIGNED[bits] if rep == 'u' else SIGNED[bits]}({text})"

    @contextmanager
    def when(self) -> Generator[None]:
        """Statements with side effects of a guarded instruction: under `if` where the guard is uniform."""
        if self.guard is None or self.kind(self.guard) != "U":
            yield
            return
        self.emit(f"if {self.rep(self.guard, 'b')}:")
        outer, self._indent, self._volatile = self._indent, self._indent + "    ", True
        yield
        self._indent, self._volatile = outer, False

    # --- results that come as arrays from a helper ---

    def stored(self, value: Value) -> tuple[str, Any]:
        """(expression, run-time kind) under which a value leaves the block."""
        if value.parts and not value.reps:
            low, high = self.stored(value.parts[0]), self.stored(value.parts[1])
            return f"({low[0]}, {high[0]})", ("P", low[1], high[1])
        if value.elect:
            return self.rep(value, "b"), "Vb"
        if value.bits == 1:
            return self.rep(value, "b"), value.kind + "b"
        if "u" not in value.reps and "f" in value.reps:
            return self.rep(value, "f"), value.kind + "f"
        return self.rep(value, "u"), value.kind + "u"
