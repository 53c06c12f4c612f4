"""Which schedules a kernel has: those of its own file, then those of the files that this one uses, in their order.

So a file of schedules alone (what `fp4cc tune` writes) is taken in by name, and a block of the spec itself comes before
all of them. What is not named by a `use` is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fp4cc.diagnostics import Collector, error
from fp4cc.frontend import Program, ast
from fp4cc.ir.kernel import Schedule
from fp4cc.sema.schedules import check_schedule, refuse_unreachable

#: A kernel with more schedules is refused (FP2029): each may become a plan, which is compiled.
MAX_SCHEDULES = 64

Nodes = Mapping[str, ast.Kernel]


@dataclass(frozen=True, slots=True)
class _Block:
    """A schedule of a kernel: the file that it stands in, by number, and the `use` that brings it (None: its own)."""

    file: int
    use: ast.Use | None
    schedule: Schedule


def check_schedules(
    program: Program, nodes: Sequence[Nodes], collector: Collector
) -> list[dict[str, tuple[Schedule, ...]]]:
    """The schedules of each file's kernels, by name, in the order in which they are tried.

    `nodes` are the kernels of each file. A block is for a kernel of its own file; where that has none of its name, for
    one of the files that use it directly.
    """
    files = _Files(program, nodes)
    found: list[dict[str, tuple[Schedule, ...]]] = []
    for file in range(len(program.modules)):
        blocks: dict[str, list[_Block]] = {}
        for other, use in files.in_order(file):
            for item in program.modules[other].items:
                if isinstance(item, ast.Schedule) and files.serves(other, use, file, item.kernel.text):
                    _add(blocks.setdefault(item.kernel.text, []), item, (other, use), files, file, collector)
        for written in blocks.values():
            if not _refuse_two_files(written, collector):
                refuse_unreachable([block.schedule for block in written], collector)
        found.append({name: tuple(block.schedule for block in written) for name, written in blocks.items()})
    return found


def _add(
    blocks: list[_Block],
    item: ast.Schedule,
    brought: tuple[int, ast.Use | None],
    files: _Files,
    file: int,
    collector: Collector,
) -> None:
    """Check a block for a kernel of `file` and put it at the end of those that the kernel has."""
    if len(blocks) > MAX_SCHEDULES:
        return
    module, uses = files.program.modules[file], files.uses_of(file)
    schedule = check_schedule(item, files.nodes[file], module.broken, collector, uses)
    if schedule is None:
        return
    blocks.append(_Block(*brought, schedule))
    if len(blocks) > MAX_SCHEDULES:
        title = f"the kernel `{item.kernel.text}` has more than {MAX_SCHEDULES} schedules"
        collector.report(error("FP2029", title, item.kernel.span, "one too many"))


@dataclass(frozen=True, slots=True)
class _Files:
    """Who uses whom, and which kernels each file has."""

    program: Program
    nodes: Sequence[Nodes]

    def has(self, file: int, kernel: str) -> bool:
        """Whether the file has a kernel of that name, or one whose head did not parse."""
        return kernel in self.nodes[file] or kernel in self.program.modules[file].broken

    def serves(self, other: int, use: ast.Use | None, file: int, kernel: str) -> bool:
        """Whether a block in `other`, which `use` brings, is for this file's kernels, if only to be told that not."""
        if use is None:
            return self.has(file, kernel) or not self.users(file, kernel)
        return self.has(file, kernel) and not self.has(other, kernel)

    def users(self, file: int, kernel: str) -> bool:
        """Whether a file that uses this one has the kernel."""
        return any(
            self.has(user, kernel)
            for user, uses in enumerate(self.program.uses)
            if any(used == file for _, used in uses)
        )

    def uses_of(self, file: int) -> list[tuple[ast.Use, Nodes]]:
        """Where the file is used, and the kernels of the file that does."""
        return [
            (item, nodes)
            for nodes, uses in zip(self.nodes, self.program.uses, strict=True)
            for item, used in uses
            if used == file
        ]

    def in_order(self, file: int) -> list[tuple[int, ast.Use | None]]:
        """The files whose blocks may be for kernels of this one: itself, then those it uses, each once."""
        found: dict[int, ast.Use | None] = {file: None}
        for item, used in self.program.uses[file]:
            found.setdefault(used, item)
        return list(found.items())


def _refuse_two_files(blocks: Sequence[_Block], collector: Collector) -> bool:
    """Whether two used files have schedules of a kernel for one target: neither could be said to come first."""
    first: dict[str, tuple[int, ast.Use, Schedule]] = {}
    for block in blocks:
        schedule = block.schedule
        if block.use is None:
            continue
        file, use, earlier = first.setdefault(schedule.target, (block.file, block.use, schedule))
        if file != block.file:
            title = f"two used files have schedules of one kernel for {schedule.target}"
            also = [
                (earlier.span, "the first of the other file"),
                (use.span, "used here"),
                (block.use.span, "and here"),
            ]
            help = f"use one of the files, or keep the blocks for {schedule.target} in one"
            collector.report(error("FP5007", title, schedule.span, "one of them", also=also, help=help))
            return True
    return False
