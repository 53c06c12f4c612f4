"""How many arrivals end a phase of each ring of a kernel: counted anew, beside what the rings say."""

from __future__ import annotations

from collections.abc import Iterator

from fp4cc.ir.lowered import Pipeline

EPILOGUE_WARPS = 4


def counted(pipeline: Pipeline, **arrivals: int) -> Iterator[str]:
    """What is wrong with the rings of a pipeline, where there are to be these with so many arrivals."""
    if {ring.name for ring in pipeline.barriers} != arrivals.keys():
        yield f"the rings are {[ring.name for ring in pipeline.barriers]}, not {list(arrivals)}"
        return
    for name, wanted in arrivals.items():
        found = pipeline.barrier(name).arrivals
        if found != wanted:
            yield f"{name} waits for {found} arrivals, and {wanted} arrive"
