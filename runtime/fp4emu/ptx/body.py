"""The body of a function: scopes, registers, labels, instructions (PTX ISA 4.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from fp4emu.errors import PtxError
from fp4emu.instruction import (
    Address,
    Guard,
    Instruction,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Symbol,
    Vector,
)
from fp4emu.ptx.text import Text, integer, literal
from fp4emu.ptx.tree import Function, Module, Variable
from fp4emu.ptx.variables import parse_variable
from fp4emu.registry import Rule, find_rule

_STATEMENT = re.compile(
    r"""\s*(?:
    (?P<brace>[{}])
  | (?P<label>[A-Za-z_$%][\w$]*)\s*:(?!:)
  | (?P<loc>\.loc\b[^\n]*)
  | (?P<directive>\.[a-z]\w*)(?P<rest>[^;]*);
  | (?:@\s*(?P<negated>!?)\s*(?P<guard>[\w$%.]+)\s+)?(?P<opcode>[a-z]\w*(?:(?:\.|::)\w+)*)(?P<operands>[^;]*);
  | (?P<empty>;)
    )""",
    re.VERBOSE,
)
_OPERAND = re.compile(r"\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[^,\s\[{(][^,]*")
_REGISTERS = re.compile(r"\s*(?:\.v[24]\s*)?\.(\w+)\s+(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$%][\w$]*(?:\.[\w$]+)*")
_SUM = re.compile(r"(?P<base>[^+\-\s][^+\s]*?)\s*(?:\+\s*(?P<plus>-?\s*[\w]+)|-\s*(?P<minus>\w+))?")


_CARRY = Register("CC.CF", "pred")
"""The condition code register, which has no name in PTX (PTX ISA 9.7.2)."""


def _with_carry(operands: list[Operand], carry: str) -> list[Operand]:
    """The operands with the condition code register where it is written and read."""
    written = [_CARRY] if carry != "in" else []
    read = [_CARRY] if carry != "out" else []
    return [*operands[:1], *written, *operands[1:], *read]


@dataclass(slots=True)
class Scope:
    """Names declared between braces. `suffix` makes the names of inner scopes unique in the function."""

    suffix: str
    registers: dict[str, Register] = field(default_factory=dict[str, Register])
    ranges: dict[str, tuple[str, int]] = field(default_factory=dict[str, "tuple[str, int]"])
    symbols: dict[str, str] = field(default_factory=dict[str, str])
    labels: set[str] = field(default_factory=set[str])


class BodyParser:
    """Fills `function` from the statements behind its opening brace."""

    def __init__(self, source: Text, module: Module, function: Function) -> None:
        self.source = source
        self.module = module
        self.function = function
        self.scopes: list[Scope] = []
        self.serial = 0
        self.rules: dict[str, tuple[Rule, dict[str, str | None], tuple[int, int | None]]] = {}
        self.cache: dict[str, Operand] = {}
        self.pending: list[tuple[int, list[Scope]]] = []
        self.tables: list[tuple[str, list[str], list[Scope]]] = []

    def parse(self, position: int) -> int:
        """Returns the offset behind the closing brace."""
        self._open()
        body, function = self.source.body, self.function
        match = _STATEMENT.match
        while self.scopes:
            found = match(body, position)
            if found is None:
                raise self.source.error(
                    "this statement is not understood", position + len(body[position:]) - len(body[position:].lstrip())
                )
            kind = found.lastgroup
            if kind == "operands":
                start = found.start("guard") if found["guard"] else found.start("opcode")
                self._instruction(found, start)
            elif kind == "label":
                name = found["label"]
                self.scopes[-1].labels.add(name)
                function.labels[name + self.scopes[-1].suffix] = len(function.body)
            elif kind == "brace":
                if found["brace"] == "{":
                    self._open()
                else:
                    self.scopes.pop()
                    self.cache = {}
            elif kind == "rest":
                self._directive(found["directive"], found["rest"], found.start("directive"))
            position = found.end()
        self._resolve_labels()
        return position

    def _open(self) -> None:
        self.scopes.append(Scope(f"@{self.serial}" if self.serial else ""))
        self.serial += 1
        self.cache = {}

    def _directive(self, directive: str, rest: str, offset: int) -> None:
        if directive == ".reg":
            found = _REGISTERS.fullmatch(rest)
            if found is None:
                raise self.source.error("this .reg declaration is not understood", offset)
            if rest.lstrip().startswith(".v"):
                raise self.source.error("vector registers are not emulated", offset)
            for item in found[2].split(","):
                name, angle, count = item.strip().partition("<")
                if angle:
                    self.scopes[-1].ranges[name] = (found[1], int(count.rstrip("> \t\n")))
                else:
                    self.scopes[-1].registers[name] = Register(name + self.scopes[-1].suffix, found[1])
        elif directive in (".shared", ".local", ".param", ".global", ".const"):
            for variable in parse_variable(self.source, directive + rest + ";", offset, False):
                unique = variable.name + self.scopes[-1].suffix
                if directive == ".shared" or directive in (".global", ".const"):
                    unique = f"{self.function.name}::{unique}"
                self.scopes[-1].symbols[variable.name] = unique
                self.function.variables[unique] = Variable(
                    unique,
                    variable.space,
                    variable.alignment,
                    variable.size,
                    variable.extern,
                    variable.initial,
                    variable.relocations,
                )
        elif directive == ".branchtargets":
            last = [label for label, index in self.function.labels.items() if index == len(self.function.body)][-1]
            self.tables.append((last, [name.strip() for name in rest.split(",")], list(self.scopes)))
        elif directive not in (".pragma", ".callprototype", ".attribute"):
            raise self.source.error(f"the directive {directive} is not understood", offset)
        self.cache = {}

    def _instruction(self, found: re.Match[str], offset: int) -> None:
        line = self.source.line_of(offset)
        name, guard = found["opcode"], None
        rule = self.rules.get(name)
        if rule is None:
            try:
                found_rule, mods = find_rule(name, self.module.gpu)
            except LookupError as unknown:
                hint = "docs/emulator.md lists what is emulated"
                self.function.refusals.append(self.source.error(str(unknown.args[0]), offset, hint=hint))
                return
            rule = self.rules[name] = found_rule, mods, found_rule.counts(mods)
        if found["guard"]:
            register = self._operand(found["guard"], offset)
            if not isinstance(register, Register) or register.type != "pred":
                raise self.source.error(f"the guard {found['guard']} is not a predicate register", offset)
            guard = Guard(register, bool(found["negated"]))
        text = found["operands"]
        cache = self.cache
        operands: list[Operand] = []
        for part in _OPERAND.findall(text):
            key = part.strip()
            operand = cache.get(key)
            if operand is None:
                operand = cache[key] = self._operand(key, offset)
            operands.append(operand)
        if rule[0].carry:
            operands = _with_carry(operands, rule[0].carry)
        least, most = rule[2]
        if len(operands) < least or (most is not None and len(operands) > most):
            raise self._miscounted(name, rule[0], rule[2], len(operands), offset)
        if rule[0].opcode in ("bra", "brx.idx", "call"):
            self.pending.append((len(self.function.body), list(self.scopes)))
        self.function.body.append(
            Instruction(name, tuple(operands), guard, line, self.source.lines[line - 1].strip(), rule[0], rule[1])
        )

    def _miscounted(self, name: str, rule: Rule, counts: tuple[int, int | None], found: int, offset: int) -> PtxError:
        """An instruction with more or fewer operands than it has."""
        hidden = {"": 0, "in": 1, "out": 1, "both": 2}[rule.carry]
        least, most = counts[0] - hidden, None if counts[1] is None else counts[1] - hidden
        takes = f"at least {least}" if most is None else f"{least}" if least == most else f"{least} to {most}"
        return self.source.error(f"{name} has {found - hidden} operands; it takes {takes}", offset)

    def _operand(self, text: str, offset: int) -> Operand:
        first = text[0]
        if first == "[":
            return self._address(text[1:-1], offset)
        if first in "{(":
            return Vector(tuple(self._operand(part.strip(), offset) for part in _OPERAND.findall(text[1:-1])))
        if first == "!":
            return Negated(self._operand(text[1:].strip(), offset))
        if "|" in text:
            left, _, right = text.partition("|")
            return Pair(self._operand(left.strip(), offset), self._operand(right.strip(), offset))
        if text == "_":
            return Sink()
        value = literal(text)
        if value is not None:
            return value
        if _NAME.fullmatch(text):
            return self._name(text)
        total = _SUM.fullmatch(text)
        if total is not None and _NAME.fullmatch(total["base"]):
            return Address(self._name(total["base"]), self._constant(total))
        raise self.source.error(f"the operand {text!r} is not understood", offset)

    def _address(self, text: str, offset: int) -> Address:
        parts = [part.strip() for part in _OPERAND.findall(text)]
        if not parts:
            raise self.source.error("an address needs a base", offset)
        total = _SUM.fullmatch(parts[0])
        if total is None:
            raise self.source.error(f"the address [{text}] is not understood", offset)
        base = self._operand(total["base"], offset)
        extra = tuple(self._operand(part, offset) for part in parts[1:])
        return Address(base, self._constant(total), extra)

    def _constant(self, total: re.Match[str]) -> int:
        if total["plus"]:
            return integer(total["plus"].replace(" ", ""))
        return -integer(total["minus"]) if total["minus"] else 0

    def _name(self, name: str) -> Operand:
        for scope in reversed(self.scopes):
            register = scope.registers.get(name)
            if register is not None:
                return register
            symbol = scope.symbols.get(name)
            if symbol is not None:
                return Symbol(symbol)
            stem = name.rstrip("0123456789")
            declared = scope.ranges.get(stem)
            if declared is not None and len(stem) < len(name) and int(name[len(stem) :]) < declared[1]:
                register = scope.registers[name] = Register(name + scope.suffix, declared[0])
                return register
        return Symbol(name)

    def _label(self, name: str, scopes: list[Scope]) -> str:
        for scope in reversed(scopes):
            if name in scope.labels:
                return name + scope.suffix
        return name

    def _resolve_labels(self) -> None:
        """Branch targets may be declared behind their use: give each the name of the scope that it is in."""
        body = self.function.body
        for index, scopes in self.pending:
            old = body[index]
            operands = tuple(Symbol(self._label(o.name, scopes)) if isinstance(o, Symbol) else o for o in old.operands)
            body[index] = Instruction(old.name, operands, old.guard, old.line, old.text, old.rule, old.mods)
        for table, names, scopes in self.tables:
            self.function.branch_tables[table] = [self._label(name, scopes) for name in names]
