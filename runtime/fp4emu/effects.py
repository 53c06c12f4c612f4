"""Asynchronous effects of one instruction, and the bulk async-groups of a thread (PTX ISA, "Async proxy" and
"Bulk async-group")."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from fp4emu.errors import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cta, ThreadContext
from fp4emu.memory import SharedMemory
from fp4emu.order.agents import Agent, Operation


def submit(
    thread: ThreadContext,
    ins: Instruction,
    action: Callable[[], None],
    *,
    order: Hashable = None,
    operation: Agent | None = None,
) -> None:
    """Queues an effect. A fault in it names the instruction that issued it, however late it runs.

    `operation` is what the watcher of the order calls it, if it has been issued before.
    """
    cta, warp, lane = thread.cta.id, thread.warp.index, thread.lane
    observer = thread.machine.order
    if observer is not None and operation is None:
        operation = observer.begin(thread.warp, lane, ins)

    def run() -> None:
        try:
            if observer is None:
                action()
            else:
                observer.act(operation, action)
        except Fault as fault:
            raise fault.with_place(line=ins.line, text=ins.text, cta=cta, warp=warp, lane=lane) from None

    thread.queue.submit(run, order=order)


def require_live(cta: Cta, what: str) -> None:
    """Faults if all warps of a CTA have exited: its shared and tensor memory are gone, also for its own operations."""
    if not cta.live_warps:
        raise Fault(
            f"{what} happens after CTA {cta.id} (rank {cta.rank}) has exited",
            hint="wait for it, or synchronize the cluster, before the last warp of the CTA exits",
        )


@dataclass(slots=True)
class BulkGroup:
    """Operations of one bulk async-group: how many have not yet read their source, or not yet finished."""

    unread: int = 0
    unfinished: int = 0
    sources: list[tuple[SharedMemory, int, int]] = field(default_factory=list["tuple[SharedMemory, int, int]"])
    operations: list[tuple[Operation, Operation]] = field(default_factory=list["tuple[Operation, Operation]"])
    """(reading, writing) as the watcher of the order knows them."""


@dataclass(slots=True)
class BulkGroups:
    """A thread's committed bulk async-groups, oldest first, and the one that is still open."""

    committed: list[BulkGroup] = field(default_factory=list[BulkGroup])
    open: BulkGroup = field(default_factory=BulkGroup)
    history: list[BulkGroup] = field(default_factory=list[BulkGroup])
    """The committed groups that no wait has covered yet, finished or not."""

    def commit(self) -> None:
        self.committed.append(self.open)
        self.history.append(self.open)
        self.open = BulkGroup()

    def reached(self, allowed: int, *, read: bool) -> bool:
        """Whether at most `allowed` of the most recent groups are still pending (or still reading)."""
        while self.committed and not self.committed[0].unfinished:
            self.committed.pop(0)
        older = self.committed[: len(self.committed) - allowed] if allowed else self.committed
        return not any(group.unread if read else group.unfinished for group in older)

    def operations(self, allowed: int, *, read: bool) -> list[Operation]:
        """What is known to be over when all but the newest groups are: the reads, and unless `read` the writes."""
        groups = self.history[: max(len(self.history) - allowed, 0)]
        pairs = [pair for group in groups for pair in group.operations]
        return [pair[0] for pair in pairs] + ([] if read else [pair[1] for pair in pairs])

    def release(self, allowed: int) -> None:
        """A wait for all but the newest groups is over: their sources may be written again."""
        count = len(self.history) - allowed
        for group in self.history[: max(count, 0)]:
            for shared, offset, size in group.sources:
                shared.end_reading(offset, size)
        if count > 0:
            del self.history[:count]


def bulk_groups(thread: ThreadContext) -> BulkGroups:
    """The bulk async-groups of a thread."""
    return thread.state.of(BulkGroups)


def submit_in_group(
    thread: ThreadContext,
    ins: Instruction,
    read: Callable[[], Callable[[], None]],
    source: tuple[SharedMemory, int, int] | None = None,
) -> None:
    """Queues an operation of the thread's open bulk group: `read` takes its source, returns what writes the result.

    The bytes of `source` (memory, offset, size) must not be written until the thread has waited for their reading.
    """
    group = bulk_groups(thread).open
    if source is not None:
        memory, offset, size = source
        memory.begin_reading(offset, size)
        group.sources.append(source)
    group.unread += 1
    group.unfinished += 1
    reading = writing = None
    if (observer := thread.machine.order) is not None:
        reading, writing = observer.begin_pair(thread.warp, thread.lane, ins)
        group.operations.append((reading, writing))

    def fetch() -> None:
        write = read()
        group.unread -= 1

        def finish() -> None:
            write()
            group.unfinished -= 1

        submit(thread, ins, finish, operation=writing)

    submit(thread, ins, fetch, operation=reading)
