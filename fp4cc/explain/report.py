"""The report of `fp4cc explain`: data first, then the same data as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fp4cc.backend.elf import ResourceUsage
from fp4cc.explain.roofline import Estimate, Work, estimate
from fp4cc.explain.work import fill_bytes, plan_for, sizes_of, work_of
from fp4cc.ir.lowered import Decision, LoweredKernel
from fp4cc.targets import TARGETS
from fp4rt import sizes as size_text

Row = tuple[str, str]
#: Bytes of one tensor memory column: 128 lanes of 32 bit.
_COLUMNS = 512


@dataclass(frozen=True, slots=True)
class Report:
    """Everything `explain` knows about one kernel at one set of sizes."""

    plan: LoweredKernel
    sizes: Mapping[str, int]
    assumed: tuple[str, ...]
    others: int
    work: Work
    estimate: Estimate
    usage: ResourceUsage | None


def report(lowered: LoweredKernel, given: Mapping[str, int], usage: Mapping[str, ResourceUsage]) -> Report:
    """Explain a kernel at the given sizes; `usage` is by entry name, from the cubin, and may be empty."""
    sizes, assumed = sizes_of(lowered.kernel, given)
    plan = plan_for(lowered, sizes)
    work = work_of(plan, sizes)
    return Report(
        plan=plan,
        sizes=sizes,
        assumed=assumed,
        others=len(lowered.variants),
        work=work,
        estimate=estimate(work, TARGETS[plan.target].rates),
        usage=usage.get(plan.launch.entry),
    )


def as_json(found: Report) -> dict[str, object]:
    """The report for machines."""
    plan = found.plan
    return {
        "kernel": plan.name,
        "target": plan.target,
        "sizes": dict(found.sizes),
        "assumed": list(found.assumed),
        "decisions": [asdict(decision) for decision in plan.decisions],
        "resources": {
            "threads": plan.launch.threads,
            "cluster": [plan.cluster.m, plan.cluster.n],
            "stages": plan.pipeline.stages,
            "shared_memory": {"bytes": plan.smem.total, "limit": plan.smem.limit},
            "tensor_memory": {"columns": _tmem_used(plan), "allocated": plan.tmem.columns, "limit": _COLUMNS},
            "registers": None if found.usage is None else found.usage.registers,
            "stack_bytes": None if found.usage is None else found.usage.stack,
            "code_bytes": None if found.usage is None else found.usage.code_bytes,
        },
        "work": asdict(found.work),
        "estimate": {**asdict(found.estimate), "efficiency": found.estimate.efficiency},
    }


def sections(found: Report) -> list[tuple[str, list[Row]]]:
    """Titles and rows of the text report, after the choices."""
    return [
        ("resources of one CTA", _resources(found)),
        ("shared memory", _buffers(found.plan)),
        ("pipeline", _barriers(found.plan)),
        ("cost", _cost(found)),
        ("time, estimated", _time(found)),
    ]


def headline(found: Report) -> list[str]:
    """The first lines: what, for which target, at which sizes."""
    plan = found.plan
    sizes = ", ".join(f"{name} = {value}" for name, value in found.sizes.items())
    lines = [f"{plan.name} for {plan.target}" + (f" at {sizes}" if sizes else "")]
    if found.assumed:
        names, first = ", ".join(found.assumed), found.assumed[0]
        lines.append(f"{names} dynamic, taken as {found.sizes[first]} here; --set {first}=... asks for another size")
    if found.others:
        which = "where no other plan applies" if plan.when is None else f"where {size_text.text(plan.when)}"
        lines.append(f"one of {found.others + 1} plans: used {which}")
    return lines


def choices(decisions: tuple[Decision, ...]) -> list[Row]:
    """The choices: what and which, then why and the alternatives."""
    rows: list[Row] = []
    for decision in decisions:
        by = {"schedule": " (by the schedule)", "target": " (by the target)", "compiler": ""}[decision.chosen_by]
        rows.append((decision.what, f"{decision.chosen}{by}"))
        rows.append(("", decision.why))
        rows.extend(("", f"instead of {alternative}") for alternative in decision.alternatives)
    return rows


def _tmem_used(plan: LoweredKernel) -> int:
    accumulators = plan.tmem.acc_stride * (plan.tmem.acc_buffers - 1) + plan.tile.n
    ends = [accumulators, plan.tmem.sfa, plan.tmem.sfb]
    atoms = -(-plan.mma.instructions_per_tile_k // plan.mma.instructions_per_atom)
    ends.append(plan.tmem.sfa + atoms * plan.tmem.sfa_columns)
    ends.append(plan.tmem.sfb + atoms * plan.tmem.sfb_columns)
    return max(ends)


def _resources(found: Report) -> list[Row]:
    plan = found.plan
    rows = [
        ("threads", f"{plan.launch.threads}: 4 epilogue warps, 1 for TMA, 1 for the MMA"),
        ("shared memory", f"{plan.smem.total} of {plan.smem.limit} bytes in {plan.pipeline.stages} stages"),
        ("tensor memory", f"{_tmem_used(plan)} of {_COLUMNS} columns used, {plan.tmem.columns} allocated"),
    ]
    if found.usage is None:
        rows.append(("registers", "not compiled"))
    else:
        usage = found.usage
        spills = "no stack, nothing spilled" if usage.stack == 0 else f"{usage.stack} bytes of stack: spills"
        rows.append(("registers", f"{usage.registers} a thread, {spills}"))
        rows.append(("code", f"{usage.code_bytes} bytes"))
    rows.extend((f"registers, {who}", f"{count} (setmaxnreg)") for who, count in plan.launch.registers)
    return rows


def _buffers(plan: LoweredKernel) -> list[Row]:
    return [
        (b.name, f"{b.total:>7} bytes at {b.offset:>6}: {b.stages} x {b.bytes}, {b.what}") for b in plan.smem.buffers
    ]


def _barriers(plan: LoweredKernel) -> list[Row]:
    rows = [
        (b.name, f"{b.stages} x ({b.arrivals} arrivals, {b.tx_bytes} bytes): {b.arrive} -> {b.wait}")
        for b in plan.pipeline.barriers
    ]
    for load in plan.pipeline.loads:
        slices = f"{load.slices} slice{'' if load.slices == 1 else 's'}"
        how = f"multicast in {slices}" if load.multicast else "one load a CTA"
        rows.append((load.tensor_map, f"into {load.buffer}, {load.slice_bytes * load.slices} bytes, {how}"))
    return rows


def _cost(found: Report) -> list[Row]:
    e, work = found.estimate, found.work
    return [
        ("FLOP", f"{e.flop:.4g}"),
        ("bytes", f"{e.bytes:.4g}: {work.read_bytes} read, {work.written_bytes} written, each tensor once"),
        ("intensity", f"{e.intensity:.0f} FLOP a byte; the ridge is at {e.ridge:.0f}"),
        ("tiles", f"{e.ctas // work.cta_group} of {work.tile_m} x {work.tile_n}, whole clusters counted"),
        ("waves", f"{e.waves}, with {_slots(found)} CTAs at a time"),
        ("last wave", f"{e.last_wave:.0%} full"),
    ]


def _slots(found: Report) -> int:
    size = found.plan.cluster.size
    return TARGETS[found.plan.target].rates.sms // size * size


def _time(found: Report) -> list[Row]:
    e, plan = found.estimate, found.plan
    rates = TARGETS[plan.target].rates
    return [
        ("roofline", f"{_us(e.roofline_time)}: compute {_us(e.compute_time)}, DRAM {_us(e.memory_time)}"),
        (
            "one K tile",
            f"{e.mma_cycles:.0f} clocks of MMA, {e.fill_cycles:.0f} to fill {fill_bytes(plan)} bytes from L2 "
            f"at {rates.smem_fill_bytes_per_clock:g} bytes a clock",
        ),
        ("one tile", f"{e.mainloop_cycles:.0f} clocks of main loop, {e.epilogue_cycles:.0f} to read the accumulator"),
        ("kernel", f"{_us(e.time)}, {e.efficiency:.0%} of the roofline; limited by {e.limit}"),
    ]


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} us"
