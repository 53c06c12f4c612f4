"""How a family of instructions registers them.

A family is one module under `fp4emu/isa/`; importing it registers its rules. A rule is an opcode, the forms of its
modifiers, the section of the PTX ISA that defines it, and a handler in one of five styles. From the quickest to the
most convenient, they are:

`style="emit"`: `handler(builder, instruction)`, called once for each compiled block, writes the Python that the block
    executes (`fp4emu.builder`). It has no results: it puts them into registers itself. For what is frequent: integer
    and f32 arithmetic, moves, loads and stores.
`style="lane"`: `handler(instruction, *sources)`, called once for all warps of a group, is a pure function of unsigned
    arrays [row, lane] to an unsigned array, or a tuple of them; it also runs for lanes that do not execute, whose
    results are dropped. For arithmetic that numpy has no single operation for.
`style="group"`: `handler(g, instruction, mask, *sources)`, called once for all warps of a group (`fp4emu.lockstep`):
    sources are ints or arrays, and the mask None or an array, in the shapes of `fp4emu.shapes`; results are arrays.
    For what needs all lanes or warps at once: votes, barriers, mbarrier operations.
`style="warp"`: `handler(warp, instruction, *sources)`, called once for each warp (`fp4emu.machine.WarpContext`) with an
    executing lane; `warp.active` is the mask of those. Sources are arrays of 32 lanes (uint8 to uint64 by the width of
    the register, bool for predicates; immediates are ints), vectors lists of such arrays; results likewise, a vector as
    a 2-D array [element, lane]. For `.sync.aligned` and warp-wide instructions: tcgen05.ld, ldmatrix, mma.sync.
`style="thread"`: `handler(thread, instruction, *sources)`, called once for each executing thread
    (`fp4emu.machine.ThreadContext`), in order of rows and lanes. Sources are ints (registers zero-extended from their
    declared width, immediates with their sign), predicates bools, vectors tuples, `[base+offset]` the address and
    `[base, {c0, c1}]` the tuple `(address, (c0, c1))`; results likewise. For what one elected thread issues: TMA,
    tcgen05.mma, commit, bulk copies.

The first `outputs` operands are destinations: they are not passed, and the handler returns their values, one or a
tuple. With `inout=True` they are passed too, as the sources they also are.

A handler that cannot go on yet returns `Wait(ready, describe)`, or puts one into `g.waits[row]` in the group style: the
warp sleeps until `ready()` is true, and the instruction is executed again. Only rules with `blocking=True` may do so.

Further marks:

- `per_warp=True`: the results of a group handler are the same in all lanes of a warp.
- `quiet`: the instruction changes nothing but registers (`fp4emu.spin`; assumed of lane and emit rules).
- `members=n`: operand n is a membermask, whose lanes must meet before the instruction.
- `once=True`: a thread handler runs once for the lanes of a warp that have equal operands, because repeating it would
  change nothing (a store by TMA that a whole warp issues). Where the order of accesses is proved by the letter, each
  lane's copy is one of its own.
- `any_order`: ptxas takes the modifiers in any order, and so does the emulator; PTX's own goes first.
- `carry`: the instruction writes ("out"), reads ("in") or both reads and writes ("both") the condition code register,
  which is then its second output and its last source.
- `targets`: the architectures that have the instruction, () for all that are emulated.
- `operands`: how many sources the instruction takes: "2", "1-2", or "3+hint+cas", where each slot or alternative
  that is named adds one if it was written. Without it the handler's parameters say so; an emit rule has none, and must.

Forms are strings of slots in PTX's order; a slot is `name=alternative|alternative` or just `alternative|alternative`
(its name is then its first alternative), in brackets if optional. The opcode itself is matched by its longest
registered prefix. Everything that no form allows is a load error which names the line: the emulator does not guess.

    @instruction("tcgen05.commit", "cta_group=cta_group::1|cta_group::2 mbarrier::arrive::one [shared::cluster] b64",
                 style="thread", section="9.7.16.12")
    def commit(thread: ThreadContext, ins: Instruction, barrier: int, mask: int = 0xFFFF) -> None: ...

What a family remembers of a thread, a warp, a CTA or a cluster is an object of a class of its own in `state`
(`fp4emu.state`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any, Literal

Style = Literal["thread", "warp", "group", "lane", "emit"]
Carry = Literal["", "in", "out", "both"]
Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Returned by a blocking handler: sleep until `ready()`. `describe()` is one line for the deadlock report.

    `limited`: the wait may also give up (mbarrier.try_wait); if nothing else can run, it is tried once more with
    `group.impatient` set. `spins`: a loop that polls memory (`fp4emu.spin`). `meets`: lanes of the warp are missing.
    """

    ready: Callable[[], bool]
    describe: Callable[[], str]
    limited: bool = False
    spins: bool = False
    meets: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    name: str
    alternatives: tuple[str, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class Form:
    slots: tuple[Slot, ...]

    def match(self, modifiers: tuple[str, ...]) -> dict[str, str | None] | None:
        """The slots' values if the modifiers fit this form, else None."""
        return _match(self.slots, 0, modifiers, 0)

    def match_in_any_order(self, modifiers: tuple[str, ...]) -> dict[str, str | None] | None:
        """The same where the order of the modifiers does not matter: each goes to the first slot that has it."""
        found: dict[str, str | None] = {slot.name: None for slot in self.slots}
        for modifier in modifiers:
            slot = next((s for s in self.slots if found[s.name] is None and modifier in s.alternatives), None)
            if slot is None:
                return None
            found[slot.name] = modifier
        return found if all(slot.optional or found[slot.name] is not None for slot in self.slots) else None


def _match(slots: tuple[Slot, ...], i: int, mods: tuple[str, ...], j: int) -> dict[str, str | None] | None:
    if i == len(slots):
        return {} if j == len(mods) else None
    slot = slots[i]
    if j < len(mods) and mods[j] in slot.alternatives:
        rest = _match(slots, i + 1, mods, j + 1)
        if rest is not None:
            rest[slot.name] = mods[j]
            return rest
    if slot.optional:
        rest = _match(slots, i + 1, mods, j)
        if rest is not None:
            rest[slot.name] = None
        return rest
    return None


def parse_form(text: str) -> Form:
    """`"kind=kind::f16|kind::i8 [.ws]"` as a `Form`."""
    slots: list[Slot] = []
    for word in text.split():
        optional = word.startswith("[")
        body = word[1:-1] if optional else word
        name, equals, alternatives = body.partition("=")
        choices = tuple((alternatives if equals else body).split("|"))
        slots.append(Slot(name if equals else choices[0], choices, optional))
    return Form(tuple(slots))


@dataclass(frozen=True, slots=True)
class Rule:
    """One registered opcode. `targets` are the architectures it exists on, () for all that are emulated."""

    opcode: str
    forms: tuple[Form, ...]
    form_texts: tuple[str, ...]
    style: Style
    outputs: int
    blocking: bool
    section: str
    family: str
    targets: tuple[str, ...]
    handler: Handler
    inout: bool = False
    once: bool = False
    per_warp: bool = False
    quiet: bool = False
    members: int | None = None
    any_order: bool = False
    carry: Carry = ""
    operands: str = ""

    def counts(self, mods: dict[str, str | None]) -> tuple[int, int | None]:
        """The least and the largest number of operands, destinations and all, under these modifiers (None: any)."""
        if not self.operands:
            least, most = _parameters(self)
            return self.first_source + least, None if most is None else self.first_source + most
        numbers, *more = self.operands.split("+")
        least, _, most = numbers.partition("-")
        extra = self.first_source + sum(mods.get(word) is not None or word in mods.values() for word in more)
        return int(least) + extra, int(most or least) + extra

    @property
    def first_source(self) -> int:
        """Index of the first operand that the handler is given."""
        return 0 if self.inout else self.outputs


#: What a handler is given before the sources.
_LEADING: dict[Style, int] = {"lane": 1, "thread": 2, "warp": 2, "group": 3}


@cache
def _parameters(rule: Rule) -> tuple[int, int | None]:
    """How many sources a handler's parameters take."""
    if rule.style == "emit":
        return 0, None
    found = list(signature(rule.handler).parameters.values())[_LEADING[rule.style] :]
    least = sum(p.kind is not Parameter.VAR_POSITIONAL and p.default is Parameter.empty for p in found)
    return least, None if any(p.kind is Parameter.VAR_POSITIONAL for p in found) else len(found)


RULES: dict[str, list[Rule]] = {}


def instruction(
    opcode: str,
    *forms: str,
    style: Style,
    section: str,
    outputs: int = 0,
    blocking: bool = False,
    targets: tuple[str, ...] = (),
    inout: bool = False,
    once: bool = False,
    per_warp: bool = False,
    quiet: bool | None = None,
    members: int | None = None,
    any_order: bool = False,
    carry: Carry = "",
    operands: str = "",
) -> Callable[[Handler], Handler]:
    """Registers a handler for `opcode` with the modifiers that `forms` allow. Several rules may share an opcode: the
    first form that fits wins."""

    def register(handler: Handler) -> Handler:
        family = handler.__module__.rsplit(".", 1)[-1]
        parsed = tuple(parse_form(form) for form in (forms or ("",)))
        rule = Rule(
            opcode,
            parsed,
            forms or ("",),
            style,
            outputs,
            blocking,
            section,
            family,
            targets,
            handler,
            inout,
            once,
            per_warp,
            style in ("lane", "emit") if quiet is None else quiet,
            members,
            any_order,
            carry,
            operands,
        )
        RULES.setdefault(opcode, []).append(rule)
        return handler

    return register


def find_rule(name: str, target: str) -> tuple[Rule, dict[str, str | None]]:
    """The rule and the modifier values of a dotted opcode; LookupError says what is not known."""
    parts = name.split(".")
    known: list[Rule] = []
    for count in range(len(parts), 0, -1):
        rules = RULES.get(".".join(parts[:count]), [])
        found = _fitting(rules, tuple(parts[count:]))
        if found is not None:
            rule, mods = found
            if rule.targets and target not in rule.targets:
                raise LookupError(f"{name} does not exist on {target} (only on {', '.join(rule.targets)})")
            return rule, mods
        known += rules
    if not known:
        raise LookupError(f"unknown instruction {name}")
    forms = "; ".join(dict.fromkeys(f"{rule.opcode} {text}".strip() for rule in known for text in rule.form_texts))
    raise LookupError(f"{name}: these modifiers are not emulated; known forms: {forms}")


def _fitting(rules: list[Rule], modifiers: tuple[str, ...]) -> tuple[Rule, dict[str, str | None]] | None:
    for rule in rules:
        for form in rule.forms:
            mods = form.match(modifiers)
            if mods is not None:
                return rule, mods
    for rule in rules:
        for form in rule.forms if rule.any_order else ():
            mods = form.match_in_any_order(modifiers)
            if mods is not None:
                return rule, mods
    return None
