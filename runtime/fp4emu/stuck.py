"""What a report says of groups: where a fault happened, and why nobody can go on."""

from __future__ import annotations

import traceback

from fp4emu.errors import Deadlock, Fault, Place
from fp4emu.generate import Specialised
from fp4emu.group import Group
from fp4emu.paths import Path
from fp4emu.spin import describe


def stuck(groups: list[Group]) -> Fault:
    """The fault of a launch in which nobody can run any more."""
    every = [(group, path) for group in groups for path in group.paths if path.waits]
    apart = next(((g, p) for g, p in every if any(wait.meets for wait in p.waits.values())), None)
    if apart is not None and not any(wait.spins for _, path in every for wait in path.waits.values()):
        return Fault(
            "the membermask names lanes that do not execute this instruction",
            hint="the warp has diverged here: the result is undefined",
            place=place_of(apart[0], apart[1]),
        )
    waits = tuple(line for group in groups for line in waiting(group))
    spinning = next(((g, w) for g, p in every for w in p.waits.values() if w.spins), None)
    if spinning is None:
        message = "deadlock: every warp waits for something that cannot happen any more"
    else:
        message = f"deadlock: no warp can go on; {_who(spinning[0], 0)} {spinning[1].describe()}"
    return Deadlock(message, waits, place=place_of(groups[0]))


def place_of(group: Group, path: Path | None = None) -> Place:
    """Where a group stands, or one of its paths."""
    body = group.flow.function.body
    ins = body[group.flow.blocks[(path or group.front()).block].start]
    place = group.place()
    return Place(ins.line, ins.text, place.entry, place.cta, place.warp)


def placed(fault: Fault, group: Group, error: BaseException | None = None) -> Fault:
    """Adds the line that was executing, found in the traceback of the generated code."""
    line, text = None, ""
    codes: dict[str, Specialised] = {
        f"<ptx {group.program.function.name} block {s.block}>": s for s in group.program.specialised.values()
    }
    for frame, number in traceback.walk_tb((error or fault).__traceback__):
        name = frame.f_code.co_filename
        if name in codes:
            for specialised in group.program.specialised.values():
                if specialised.run.__code__ is frame.f_code:
                    ins = specialised.lines[number - 1]
                    if ins is not None:
                        line, text = ins.line, ins.text
    place = group.place()
    return fault.with_place(line=line, text=text, entry=place.entry, cta=place.cta, warp=place.warp, lane=place.lane)


def waiting(group: Group) -> list[str]:
    """What the paths of a group wait for, a line each; where it stands if they do not."""
    lines: list[str] = []
    for path in group.paths:
        for row, wait in path.waits.items():
            more = f" (with {len(group.warps) - 1} warps more)" if wait.spins and len(group.warps) > 1 else ""
            lines.append(f"{_who(group, row)}{more}: {wait.describe()}")
    return lines or [_where(group)]


def _who(group: Group, row: int) -> str:
    warp = group.warps[row]
    return f"CTA {warp.cta.id} warp {warp.index}"


def _where(group: Group) -> str:
    flow = group.flow
    ins = flow.function.body[flow.blocks[group.front().block].start]
    warps = sorted({(warp.cta.id, warp.index) for warp in group.warps})
    polls = f", {describe(group.polls)}" if group.polls else ""
    first = f"CTA {warps[0][0]} warp {warps[0][1]}"
    return f"{len(warps)} warps (first: {first}) at PTX line {ins.line}{polls}: {ins.text}"
