"""The part of a report about a GEMM with a timing model: its resources, its pipeline, the time it should take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fp4cc.explain.roofline import Estimate, Work, estimate
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import fill_bytes, work_of
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.facts import Timing
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.targets import TARGETS
from fp4rt.timing import parameters

#: Tensor memory columns of an SM, each 128 lanes of 32 bit.
_COLUMNS = 512


@dataclass(frozen=True, slots=True)
class GemmFigures:
    """What a call with certain sizes does and costs."""

    plan: LoweredKernel
    work: Work
    estimate: Estimate

    @classmethod
    def of(cls, plan: LoweredKernel, timing: Timing, sizes: Mapping[str, int]) -> GemmFigures:
        """The figures of a call."""
        work = work_of(plan, timing, sizes)
        return cls(plan, work, estimate(work, TARGETS[plan.target].rates))

    @property
    def roofline_time(self) -> float:
        """Seconds at best."""
        return self.estimate.roofline_time

    @property
    def time(self) -> float:
        """Seconds in the model."""
        return self.estimate.time

    def resources(self) -> list[Row]:
        """Resources beyond registers and shared memory."""
        plan, facts = self.plan, ENGINES.facts(self.plan)
        columns = [] if facts.tensor_memory is None else [("tensor memory", facts.tensor_memory[2])]
        return [
            ("warps", warps(plan)),
            ("stages", f"{plan.rings.stages} of operands in shared memory{facts.stages}"),
            *columns,
        ]

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Titles and rows of what is particular to a GEMM."""
        return [
            ("pipeline", [*pipeline_rows(self.plan), *_conversions(self.plan)]),
            ("cost", _cost(self)),
            ("time, estimated", _time(self)),
        ]

    def resources_json(self) -> dict[str, object]:
        """Resources beyond registers and shared memory, for machines."""
        plan, facts = self.plan, ENGINES.facts(self.plan)
        columns = {} if facts.tensor_memory is None else {"tensor_memory": tensor_memory(facts.tensor_memory)}
        return {"cluster": [plan.cluster.m, plan.cluster.n], "stages": plan.rings.stages, **columns}

    def json(self) -> dict[str, object]:
        """Work and time, for machines."""
        return {
            "work": asdict(self.work),
            "estimate": {**asdict(self.estimate), "efficiency": self.estimate.efficiency},
        }


def tensor_memory(columns: tuple[int, int, str]) -> dict[str, int]:
    """Columns of tensor memory, for machines."""
    return {"columns": columns[0], "allocated": columns[1], "limit": _COLUMNS}


def pipeline_rows(plan: LoweredKernel) -> list[Row]:
    """The rings and the loads that fill them; nothing where the engine reads memory itself."""
    barriers = plan.pipeline.barriers if plan.pipeline is not None else ()
    rows = [
        (
            b.name,
            f"{b.stages} x ({b.arrivals} arrivals, {b.tx_bytes} bytes): {b.arrive} -> {b.wait}"
            f"{', across the cluster' if b.scope == 'cluster' else ''}",
        )
        for b in barriers
    ]
    for load in plan.loads:
        slices = f"{load.slices} slice{'' if load.slices == 1 else 's'}"
        how = f"multicast in {slices}" if load.multicast else "one load a CTA"
        rows.append((load.tensor_map, f"into {load.buffer}, {load.slice_bytes * load.slices} bytes, {how}"))
    return rows


def warps(plan: LoweredKernel) -> str:
    """The warps of a CTA by what they do."""
    return ", ".join(f"{role.warps} {role.what}" for role in plan.roles)


def _conversions(plan: LoweredKernel) -> list[Row]:
    """What converter warps bring."""
    rows: list[Row] = []
    for conversion in (c for mainloop in plan.mainloops for c in mainloop.conversions):
        loads = f"into {conversion.buffer}, {conversion.stage_bytes} bytes by ordinary loads"
        rows.append((conversion.name, f"{loads}: {conversion.how}"))
    return rows


def in_parts(parts: int) -> str:
    """What is said of tiles whose K is shared by CTAs."""
    return f", each in {parts} parts of K" if parts > 1 else ""


def _cost(found: GemmFigures) -> list[Row]:
    e, work = found.estimate, found.work
    return [
        ("FLOP", f"{e.flop:.4g}"),
        ("bytes", f"{e.bytes:.4g}: {work.read_bytes} read, {work.written_bytes} written, each tensor once"),
        ("intensity", f"{e.intensity:.0f} FLOP a byte; the ridge is at {e.ridge:.0f}"),
        (
            "tiles",
            f"{e.ctas // work.cta_group // work.parts} of {work.tile_m} x {work.tile_n}, whole clusters counted"
            + in_parts(work.parts),
        ),
        ("waves", f"{e.waves}, with {_slots(found)} CTAs at a time"),
        ("last wave", f"{e.last_wave:.0%} full"),
    ]


def _slots(found: GemmFigures) -> int:
    size = found.plan.cluster.size
    return TARGETS[found.plan.target].rates.sms // size * size


def _beyond(found: GemmFigures) -> str:
    """What is said of a rate that nobody has published."""
    rate = found.estimate.flop / found.estimate.time if found.estimate.time else 0.0
    bits = {32768: 4, 16384: 8}.get(found.work.flop_per_clock, 16)
    most = parameters(found.plan.target)[f"published_{bits}_bit"].value
    if rate <= most:
        return ""
    return f"{rate / 1e12:.0f} TFLOP/s, more than anybody has published ({most / 1e12:.0f}): take it as a bound"


def _time(found: GemmFigures) -> list[Row]:
    e, plan = found.estimate, found.plan
    rates = TARGETS[plan.target].rates
    return [
        ("roofline", f"{us(e.roofline_time)}: compute {us(e.compute_time)}, DRAM {us(e.memory_time)}"),
        (
            "one K tile",
            f"{e.mma_cycles:.0f} clocks of MMA, {e.fill_cycles:.0f} to fill {fill_bytes(plan)} bytes from L2 "
            f"at {rates.smem_fill_bytes_per_clock:g} bytes a clock"
            + (f", {found.work.convert_cycles:.0f} to convert" if plan.converters else ""),
        ),
        (
            "one tile" if found.work.parts == 1 else "one part",
            f"{e.mainloop_cycles:.0f} clocks of main loop, {e.epilogue_cycles:.0f} to read the accumulator"
            + (" and to meet the other parts" if found.work.parts > 1 else ""),
        ),
        ("kernel", f"{us(e.time)}, {e.efficiency:.0%} of the roofline; limited by {e.limit}"),
        ("clock", f"{e.clock / 1e9:.2f} of {rates.clock_ghz:g} GHz, what power leaves of it"),
        *([("note", beyond)] if (beyond := _beyond(found)) else []),
    ]
