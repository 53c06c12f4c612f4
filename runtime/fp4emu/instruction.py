"""One parsed PTX instruction and its operands (PTX ISA, chapter 4: syntax)."""

from __future__ import annotations

from dataclasses import dataclass, field

from fp4emu.registry import Rule


@dataclass(frozen=True, slots=True)
class Register:
    """`%r12`. The type is the one in its `.reg` declaration: "b32", "u64", "pred", "b16", "f32", "b128" ..."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal. An integer keeps its sign; `0f...` and `0d...` hold their bits, and `float_bits` is 32 or 64."""

    value: int
    float_bits: int = 0


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a variable, a parameter, a function or a label, or a special register (`%tid.x`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Vector:
    """`{a, b, c, d}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """`[base + offset]`, or with more items `[base, {coordinates}]` (TMA) and the like: `extra` holds the further
    items."""

    base: Operand
    offset: int = 0
    extra: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """`d|p`: a destination with a second, predicate destination."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Negated:
    """`!%p` as a source operand."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Sink:
    """`_`: the result is not wanted."""


Operand = Register | Immediate | Symbol | Vector | Address | Pair | Negated | Sink


@dataclass(frozen=True, slots=True)
class Guard:
    """`@%p` or `@!%p` in front of an instruction."""

    register: Register
    negated: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """`name` is the whole dotted opcode as written; `rule` the entry of the registry that executes it.

    `mods` maps the slot names of the rule's form to the alternative that was written (None where an optional slot is
    absent),
    e.g. {"cta_group": "cta_group::2", "kind": "kind::mxf4", "block_scale": "block_scale", "collector": None}.
    """

    name: str
    operands: tuple[Operand, ...]
    guard: Guard | None
    line: int
    text: str
    rule: Rule = field(compare=False, repr=False)
    mods: dict[str, str | None] = field(compare=False, default_factory=dict[str, "str | None"])

    def has(self, slot: str) -> bool:
        """Whether an optional slot of the form was written."""
        return self.mods.get(slot) is not None

    def mod(self, slot: str) -> str:
        """The alternative written in a slot, "" if it is absent."""
        return self.mods.get(slot) or ""


def registers_of(operand: Operand) -> list[Register]:
    """Every register in an operand."""
    if isinstance(operand, Register):
        return [operand]
    if isinstance(operand, Vector):
        return [r for item in operand.items for r in registers_of(item)]
    if isinstance(operand, Address):
        return registers_of(operand.base) + [r for item in operand.extra for r in registers_of(item)]
    if isinstance(operand, Pair):
        return registers_of(operand.first) + registers_of(operand.second)
    if isinstance(operand, Negated):
        return registers_of(operand.operand)
    return []
