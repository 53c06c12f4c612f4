"""Control flow (PTX ISA 9.7.12) and what only advises the hardware (9.7.19, 9.7.13.13)."""

from __future__ import annotations

from typing import Any

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction, Symbol
from fp4emu.lockstep import Lockstep
from fp4emu.registry import Wait, instruction


def _ending(e: Builder, ins: Instruction) -> None:
    """Branches and exits end a block: `fp4emu.program` writes them."""


def _nothing(e: Builder, ins: Instruction) -> None:
    """Has no effect on results."""


instruction("bra", "[uni]", style="emit", operands="1", section="9.7.12.3")(_ending)
instruction("brx.idx", "[uni]", style="emit", operands="2", section="9.7.12.4")(_ending)
instruction("ret", "[uni]", style="emit", operands="0", section="9.7.12.6")(_ending)
instruction("exit", "", style="emit", operands="0", section="9.7.12.7")(_ending)
instruction("trap", "", style="emit", operands="0", section="9.7.19.4")(_ending)
instruction("brkpt", "", style="emit", operands="0", section="9.7.19.1")(_nothing)
instruction("pmevent", "[mask]", style="emit", operands="1", section="9.7.19.3")(_nothing)
instruction("nanosleep", "u32", style="emit", operands="1", section="9.7.19.2")(_nothing)


@instruction("griddepcontrol", "action=launch_dependents|wait", style="group", section="9.7.13.13", blocking=True)
def griddepcontrol(g: Lockstep, ins: Instruction, mask: Any) -> None:
    """`wait` sleeps until the launch before has ended; `launch_dependents` lets the next one begin."""
    dependency = g.grid.machine.dependency
    for row, warp, _ in g.executing(mask):
        if ins.mod("action") == "launch_dependents":
            dependency.release(warp.cta.id)
        elif dependency.over():
            dependency.waited.add(warp.cta.id)
        else:
            g.waits[row] = Wait(dependency.over, lambda: "griddepcontrol.wait: the launch before has not ended")


@instruction("call", "[uni]", style="emit", operands="", section="9.7.12.5", quiet=False)
def call(e: Builder, ins: Instruction) -> None:
    """What `fp4emu.ptx.inline` leaves of calls: those of functions that the module does not define."""
    name = ins.operands[0].name if isinstance(ins.operands[0], Symbol) else "a register"
    e.emit(f"g.undefined({e.mask()}, {name!r})")
