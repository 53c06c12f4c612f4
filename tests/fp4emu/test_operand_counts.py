"""An instruction with too few or too many operands is refused where it is read, whatever it is: neither a failure
inside of the emulator nor a program that runs as if the operand were not there."""

from __future__ import annotations

import pytest

from fp4emu import Gpu, PtxError
from fp4emu.isa import load_families
from fp4emu.registry import RULES, Form, Rule, find_rule

HEAD = """.version 8.8
.target {target}
.address_size 64
.visible .entry kernel() {{ .reg .b32 %r<99>; {line} ret; }}
"""

load_families()
CASES = [
    (rule, form)
    for rules in RULES.values()
    for rule in rules
    for form in rule.forms
    if not rule.opcode.startswith("call")  # what a call takes is the function's affair
]


def counts(rule: Rule, form: Form) -> tuple[str, str, int, int | None]:
    """An instruction of the form, a target that has it, and the numbers of operands that PTX may write for it."""
    name = ".".join([rule.opcode, *(slot.alternatives[0] for slot in form.slots if not slot.optional)])
    target = (rule.targets or ("sm_100a",))[-1]
    found, mods = find_rule(name, target)
    hidden = {"": 0, "in": 1, "out": 1, "both": 2}[found.carry]
    least, most = found.counts(mods)
    return name, target, least - hidden, None if most is None else most - hidden


@pytest.mark.parametrize("opcode", sorted({rule.opcode for rule, _ in CASES}))
def test_a_wrong_number_of_operands_is_refused(opcode: str) -> None:
    for rule, form in CASES:
        if rule.opcode != opcode:
            continue
        name, target, least, most = counts(rule, form)
        wrong = [least - 1] * (least > 0) + ([] if most is None else [most + 1])
        assert wrong, f"{name} takes any number of operands"
        for count in wrong:
            line = f"{name} {', '.join(f'%r{i}' for i in range(count))};"
            with pytest.raises(PtxError, match=f"{count} operands"):
                Gpu(target).load(HEAD.format(target=target, line=line))


@pytest.mark.parametrize("name", ["mbarrier.arrive.expect_tx.shared.b64", "mbarrier.arrive.noComplete.shared.b64"])
def test_an_arrival_that_expects_needs_its_count(name: str) -> None:
    gpu = Gpu("sm_100a")
    module = gpu.load(HEAD.format(target="sm_100a", line=f".reg .b64 %s; {name} %s, [%r1];"))
    with pytest.raises(Exception, match=f"{name} needs a count"):
        gpu.launch(module, "kernel", (1, 1, 1), (32, 1, 1))
