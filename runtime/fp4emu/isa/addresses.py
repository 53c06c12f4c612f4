"""Addresses, and what only advises caches: cvta, mapa, isspacep, prefetch and their kin (PTX ISA 9.7.9)."""

from __future__ import annotations

from typing import Any

from fp4emu.builder import Builder
from fp4emu.instruction import Instruction
from fp4emu.isa.integer import bits_of, lanewise
from fp4emu.lockstep import Lockstep
from fp4emu.memory import GLOBAL_BASE, RANK_SHIFT, SHARED_WINDOW
from fp4emu.registry import instruction
from fp4emu.representation import join


@instruction(
    "cvta",
    "space=const|global|local|shared|shared::cta|shared::cluster|param|param::entry type=u64",
    style="emit",
    operands="1",
    section="9.7.9.20",
    outputs=1,
)
def cvta(e: Builder, ins: Instruction) -> None:
    """To a generic address of 64 bits (9.7.9.20): shared memory has a window, the other spaces are identical."""
    _moved(e, ins, "+")


@instruction(
    "cvta.to",
    "space=const|global|local|shared|shared::cta|shared::cluster|param type=u64",
    style="emit",
    operands="1",
    section="9.7.9.20",
    outputs=1,
)
def cvta_to(e: Builder, ins: Instruction) -> None:
    _moved(e, ins, "-")


def _moved(e: Builder, ins: Instruction, sign: str) -> None:
    if not ins.mod("space").startswith("shared"):
        lanewise(e, ins, 64, "u", "{0}", "{0}")
        return
    uniform = f"(({{0}} {sign} {SHARED_WINDOW}) & {(1 << 64) - 1})"
    lanewise(e, ins, 64, "u", uniform, f"({{0}} {sign} U8({SHARED_WINDOW}))")


@instruction(
    "isspacep",
    "space=const|global|local|shared|shared::cta|shared::cluster|param",
    style="emit",
    operands="1",
    section="9.7.9.19",
    outputs=1,
)
def isspacep(e: Builder, ins: Instruction) -> None:
    shared = ins.mod("space").startswith("shared")
    if ins.mod("space") in ("const", "local", "param"):
        e.fail("isspacep is emulated for global and shared memory only")
    test = f"({{0}} {'<' if shared else '>='} {GLOBAL_BASE})"
    lanewise(e, ins, 64, "u", test, test, out=("b", 1))


@instruction("mapa", "[space=shared::cluster] type=u32|u64", style="emit", operands="2", section="9.7.9.23", outputs=1)
def mapa(e: Builder, ins: Instruction) -> None:
    """The address of the same variable in the CTA of a given rank."""
    bits = bits_of(ins.mod("type"))
    a, a_kind = e.source(ins.operands[1], "u", bits)
    rank, rank_kind = e.source(ins.operands[2], "u", 32)
    kind, keep = join(a_kind, rank_kind), (1 << bits) - 1 - (0xFF << RANK_SHIFT)
    if bits == 64 and rank_kind != "U":
        rank = f"{rank}.astype(U8)"
    e.set(ins.operands[0], kind, "u", f"(({a} & {keep}) | (({rank} & 0xFF) << {RANK_SHIFT}))", bits)


@instruction(
    "getctarank", "[space=shared::cluster] type=u32|u64", style="emit", operands="1", section="9.7.9.24", outputs=1
)
def getctarank(e: Builder, ins: Instruction) -> None:
    bits = bits_of(ins.mod("type"))
    a, kind = e.source(ins.operands[1], "u", bits)
    text = f"(({a} >> {RANK_SHIFT}) & 255)"
    e.set(ins.operands[0], kind, "u", text if kind == "U" or bits == 32 else f"{text}.astype(U4)", 32)


@instruction(
    "prefetch", "[space=global|local] level=L1|L2|L2::evict_last|L2::evict_normal", style="group", section="9.7.9.15"
)
def prefetch(g: Lockstep, ins: Instruction, mask: Any, address: Any) -> None:
    """Has no effect on results."""


@instruction("prefetchu", "L1", style="group", section="9.7.9.15", quiet=True)
def prefetchu(g: Lockstep, ins: Instruction, mask: Any, address: Any) -> None:
    """Has no effect on results."""


@instruction("discard", "[global] L2", style="group", section="9.7.9.17", quiet=True)
def discard(g: Lockstep, ins: Instruction, mask: Any, address: Any, size: int) -> None:
    """A discarded line may hold anything: reading it before a store is a mistake that is not detected."""


@instruction("applypriority", "[global] L2::evict_normal", style="group", section="9.7.9.16", quiet=True)
def applypriority(g: Lockstep, ins: Instruction, mask: Any, address: Any, size: int) -> None:
    """Has no effect on results."""


@instruction(
    "createpolicy",
    "fractional level=L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged "
    "[second=L2::evict_first|L2::evict_unchanged] b64",
    style="emit",
    operands="0-1",
    section="9.7.9.18",
    outputs=1,
)
def createpolicy(e: Builder, ins: Instruction) -> None:
    """Cache policies have no effect on results: any value will do."""
    e.set(ins.operands[0], "U", "u", "0", 64)
