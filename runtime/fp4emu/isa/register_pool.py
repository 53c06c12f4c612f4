"""setmaxnreg (PTX ISA 9.7.19.5): the registers that warps give to their CTA's pool and take from it.

A CTA has at its launch what each of its warps was given: `.maxnreg` registers a thread, or without that the most with
which `.minnctapersm` blocks of its size (one, if nothing is said) fit on an SM. ptxas gives no more than the largest
count that a `setmaxnreg.inc` asks for. `.dec` gives registers back; `.inc` waits until the pool has enough. What a
warp holds when it exits does not come back. A kernel that has neither directive is launched with a number that ptxas
does not know: it ignores its `setmaxnreg`, and so does the emulator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fp4emu.errors import Fault
from fp4emu.instruction import Immediate, Instruction
from fp4emu.lockstep import Lockstep
from fp4emu.machine import Cta
from fp4emu.ptx.tree import Function
from fp4emu.registry import Wait, instruction

LEAST, MOST, STEP = 24, 256, 8
LIMIT = 248
"""Registers that a thread may have at a launch (255, in steps of 8)."""
SM_REGISTERS = 1 << 16
WARPGROUP = 4


def at_launch(function: Function) -> int:
    """Registers a thread of an entry that has setmaxnreg; 0 if ptxas cannot tell."""
    asked = [
        ins.operands[0].value
        for ins in function.body
        if ins.rule.opcode == "setmaxnreg" and ins.mod("action") == "inc" and isinstance(ins.operands[0], Immediate)
    ]
    block = function.required_block or function.max_block
    if function.max_registers:
        limit = function.max_registers
    elif block is not None:
        warps = -(-block[0] * block[1] * block[2] // 32)
        limit = SM_REGISTERS // (-(-warps // WARPGROUP) * WARPGROUP * 32 * max(function.min_blocks, 1))
    else:
        return 0
    limit = min(limit // STEP * STEP, LIMIT)
    return min(limit, max(asked, default=limit))


@dataclass(slots=True)
class _Pool:
    """Of one CTA: registers a thread that each warp holds and has held, and how many are free."""

    start: int = 0
    free: int = 0
    held: dict[int, list[int]] = field(default_factory=dict[int, "list[int]"])

    def of(self, warp: int) -> list[int]:
        """The counts of a warp so far."""
        return self.held.setdefault(warp, [self.start])


@instruction(
    "setmaxnreg",
    "action=inc|dec sync aligned u32",
    style="group",
    section="9.7.19.5",
    blocking=True,
    quiet=True,
)
def set_max_registers(g: Lockstep, ins: Instruction, mask: Any, count: Any) -> None:
    """Gives registers back, or takes them and waits until there are enough."""
    if not isinstance(ins.operands[0], Immediate) or not LEAST <= count <= MOST or count % STEP:
        raise Fault(f"setmaxnreg to {count}: the count is an immediate of 24, 32, ... 256")
    start = g.grid.registers
    if not start:
        return
    for row, warp, _ in g.executing(mask):
        g.row = row
        pool = warp.cta.state.find(_Pool)
        if pool is None:
            pool = warp.cta.state.of(_Pool)
            pool.start = start
            warp.cta.at_exit.append(_check_warpgroups)
        counts = pool.of(warp.index)
        grow = 32 * (count - counts[-1])
        if (grow < 0) != (ins.mod("action") == "dec") and grow:
            raise Fault(f"setmaxnreg.{ins.mod('action')} to {count}: a thread of the warp has {counts[-1]} registers")
        if grow > pool.free:
            g.waits[row] = _wait(pool, grow, count, counts[-1])
            continue
        pool.free -= grow
        counts.append(count)
        warp.cta.cluster.machine.clock.ticks += 1
    g.row = None


def _wait(pool: _Pool, needed: int, count: int, held: int) -> Wait:
    def describe() -> str:
        return (
            f"setmaxnreg.inc to {count}: needs {needed} registers (32 threads with {held}), and the CTA's pool has "
            f"{pool.free}; every thread began with {pool.start}. The CTA asks for more registers than it has"
        )

    return Wait(lambda: pool.free >= needed, describe)


def _check_warpgroups(cta: Cta) -> None:
    """All warps of a warpgroup must have executed the same setmaxnreg."""
    pool = cta.state.of(_Pool)
    for first in sorted({warp // WARPGROUP * WARPGROUP for warp in pool.held}):
        counts = {warp: pool.of(warp)[1:] for warp in range(first, first + WARPGROUP)}
        if any(other != counts[first] for other in counts.values()):
            raise Fault(
                f"warps {first} to {first + WARPGROUP - 1} of CTA {cta.id} executed different setmaxnreg: "
                + "; ".join(f"warp {warp}: {', '.join(map(str, done)) or 'none'}" for warp, done in counts.items()),
                hint="all warps of a warpgroup must execute the same setmaxnreg",
            )
