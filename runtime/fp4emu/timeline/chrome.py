"""A timeline in the Trace Event Format, which Perfetto and chrome://tracing open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fp4emu.timeline.result import Span


def chrome(spans: Iterable[Span], clock_ghz: float, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The document: a process for each SM, a thread for each track, times in microseconds."""
    events: list[dict[str, Any]] = []
    processes: dict[str, int] = {}
    tracks: dict[tuple[str, str], int] = {}
    for process, track, what, begin, end in spans:
        pid = processes.get(process)
        if pid is None:
            pid = processes[process] = len(processes) + 1
            events.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process}})
        tid = tracks.get((process, track))
        if tid is None:
            tid = tracks[process, track] = len(tracks) + 1
            events.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": track}})
            events.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}})
        scale = 1e-3 / clock_ghz
        events.append(
            {"ph": "X", "pid": pid, "tid": tid, "name": what, "ts": begin * scale, "dur": (end - begin) * scale}
        )
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": dict(about or {})}
