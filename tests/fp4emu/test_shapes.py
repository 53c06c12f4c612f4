"""Every instruction of the registry under every shape of guard and operand, in every way of running: the same results.

A program holds forms of an instruction under no guard, under guards that are uniform in a CTA, uniform in a warp,
different in each lane, one elected lane, and false everywhere, with operands that are immediates, uniform, per CTA, per
warp and per lane (`fp4emu.shapes`). It runs with all warps in lockstep, warp by warp, with late completions, and with
branches in place of the guards. What each thread got and what memory holds must be equal, and each value must have the
shape that the generated code takes it to have.
"""

from __future__ import annotations

from typing import Any

import pytest

from fp4emu import Fault
from fp4emu.group import kind_of
from fp4emu.isa import load_families
from fp4emu.program import Program
from fp4emu.registry import RULES, Form, Rule

from .shape_cases import BLOCKS, EXCLUDED, MANY, MEMORY, OPERANDS, Writer, write


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every block checked: what it leaves in a register has the kind that the next block will be made for."""
    original = Program.specialise

    def specialise(self: Program, *arguments: Any) -> Any:
        code = original(self, *arguments)
        if not hasattr(code.run, "checked"):
            run, kinds = code.run, code.out_kinds

            def watched(registers: list[Any], group: Any) -> int:
                way = run(registers, group)
                for slot, kind in kinds.items():
                    assert kind_of(registers[slot]) == kind, (slot, kind, registers[slot])
                return way

            watched.checked = True  # type: ignore[attr-defined]
            watched.__code__ = watched.__code__
            code.run = watched
        return code

    monkeypatch.setattr(Program, "specialise", specialise)


def outcome(kernel: Any, rule: Rule, w: Writer, **how: Any) -> bytes | str:
    target = (rule.targets or ("sm_100a",))[0]
    start = w.initial(BLOCKS)
    try:
        return kernel(w.text(), out=len(start), fill=start, grid=(BLOCKS,), block=w.block, target=target, **how)
    except Fault as fault:
        assert "internal error" not in fault.message, fault
        return fault.message


def try_form(kernel: Any, rule: Rule, form: Form, seed: int, count: int) -> bool:
    """Runs one program in all ways; False if the form was refused (as it must be in all of them)."""
    w, about = write(rule, form, seed, count, False)
    whole = outcome(kernel, rule, w)
    assert outcome(kernel, rule, w, lockstep="warp") == whole, f"grid and warp differ\n{about}"
    assert outcome(kernel, rule, w, mode="delayed", seed=seed) == whole, f"delayed differs\n{about}"
    branching, _ = write(rule, form, seed, count, True)
    assert outcome(kernel, rule, branching) == whole, f"guards and branches differ\n{about}"
    return isinstance(whole, bytes)


def forms() -> list[tuple[Rule, Form]]:
    load_families()
    return [
        (rule, form)
        for rules in RULES.values()
        for rule in rules
        for form in rule.forms
        if rule.opcode not in EXCLUDED and not {"cluster", "tensormap"} & {s.name for s in form.slots}
    ]


def test_every_instruction_has_operands_or_a_reason() -> None:
    load_families()
    assert set(RULES) == set(OPERANDS) | set(MEMORY) | set(EXCLUDED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("opcode", sorted(set(OPERANDS) | set(MEMORY)))
def test_an_instruction_under_every_shape(opcode: str, seed: int, kernel: Any, checked: None) -> None:
    ran = [try_form(kernel, rule, form, seed, MANY) for rule, form in forms() if rule.opcode == opcode]
    assert any(ran)


@pytest.mark.parametrize("opcode", ["red", "atom", "cp.async", "st", "ld", "st.async", "selp", "prmt", "vote.sync"])
def test_an_instruction_under_some_shapes(opcode: str, kernel: Any, checked: None) -> None:
    """A quick sample: one form of an instruction of each style."""
    rule, form = next((rule, form) for rule, form in forms() if rule.opcode == opcode)
    assert try_form(kernel, rule, form, 11, 7)
