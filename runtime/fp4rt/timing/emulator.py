"""An artifact's launches, recorded on the emulator and replayed in time (`fp4emu.timeline`).

Of a large grid only as much runs as stands for the rest. A persistent kernel is launched with so many CTAs that each
takes `tiles` tiles, of which the first cluster runs; its time for all tiles of the real grid follows from the last
tile's. Of a grid with a CTA for each tile two clusters run, and stand for all that an SM gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.inputs import random_inputs
from fp4rt.typed import shape_of
from fp4rt.work import memory

if TYPE_CHECKING:
    from fp4emu.recording import Recording
    from fp4emu.timeline import Timeline
    from fp4rt.artifact import Artifact
    from fp4rt.kernel import Kernel
    from fp4rt.resolve import ResolvedLaunch
    from fp4rt.typed import TypedKernel

#: Tiles of a CTA that are recorded where nobody says how many.
TILES = 3
#: Elements up to which inputs are random; larger ones are zeros, for times do not depend on them but by power.
_RANDOM = 1 << 20
#: Registers and threads of an SM, and shared memory with what the system takes for each CTA.
_REGISTERS, _THREADS, _SHARED, _RESERVED, _CTAS = 65536, 2048, 228 << 10, 1 << 10, 32


@dataclass(slots=True)
class Recorded:
    """A launch: how its clusters were `sampled`, as (units that the recording has, the recording), the smaller one
    first; `units` that an SM gets in the real launch; `active` SMs of it; clusters `resident` at once."""

    entry: str
    units: int
    active: int
    resident: int
    clusters: int
    persistent: bool
    samples: list[tuple[int, Recording]] = field(default_factory=list["tuple[int, Recording]"])

    @property
    def sampled(self) -> bool:
        """Whether only a part of it ran."""
        return self.samples[-1][0] < self.units


@dataclass(frozen=True, slots=True)
class Predicted:
    """A launch in time: `cycles` of all of it at the full clock, `seconds` with what power leaves of the clock and the
    launch, and the timeline of the sample."""

    entry: str
    cycles: float
    seconds: float
    clock_ghz: float
    timeline: Timeline
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class Call:
    """A recorded call: its launches, the bytes that it reads from DRAM, each tensor once, and those that it writes."""

    launches: list[Recorded]
    read_bytes: int
    written_bytes: int


def record(
    artifact: Artifact, dims: Mapping[str, int], rates: Mapping[str, float], *, tiles: int = TILES,
    registers: Mapping[str, int] | None = None,
) -> Call:  # fmt: skip
    """Runs a call as far as it stands for the whole. `registers` of a thread, by entry, bound what an SM holds."""
    found: dict[str, Recorded] = {}
    typed = artifact.manifest.kernel
    arguments = _arguments(artifact, dims)
    for size in _rounds(artifact, dims, rates, tiles):
        device = EmulatorDevice(sms=int(rates["sms"]), record=_recorder(found, size, rates, registers or {}))
        kernel: Kernel = artifact.load_kernel(device)
        kernel(**arguments)
    ways = {arg.name: arg.direction for arg in typed.args}
    sized = [(ways[one.name], one.total) for one in memory(typed, dims)]
    read = sum(total for way, total in sized if way in ("in", "inout"))
    written = sum(total for way, total in sized if way in ("out", "inout"))
    for one in found.values():
        one.samples.sort(key=lambda sample: sample[0])
    return Call(list(found.values()), read, written)


def _rounds(artifact: Artifact, dims: Mapping[str, int], rates: Mapping[str, float], tiles: int) -> tuple[int, ...]:
    """How many tiles a CTA takes in each run: two numbers where the real launch has more than `tiles`."""
    from fp4rt.resolve import resolve

    most = 1
    for launch in resolve(artifact.manifest, dims).launches:
        if launch.tiles is not None:
            most = max(most, -(-launch.tiles // max(1, int(rates["sms"]) // _size(launch))))
    if most <= tiles:
        return (most,)
    return (1, tiles) if tiles > 1 else (1,)


def _size(launch: ResolvedLaunch) -> int:
    return launch.cluster[0] * launch.cluster[1] * launch.cluster[2]


def _recorder(found: dict[str, Recorded], size: int, rates: Mapping[str, float], registers: Mapping[str, int]) -> Any:
    """For each launch of a run: what it is recorded in, and how many clusters its grid may have."""

    def recorder(launch: ResolvedLaunch) -> tuple[Recording, int]:
        from fp4emu.recording import Recording

        places = max(1, int(rates["sms"]) // _size(launch))
        key = f"{launch.index}"
        if launch.tiles is not None:
            units = -(-launch.tiles // places)
            taken = min(size, units)
            recording = Recording(clusters=(0,))
            one = found.setdefault(
                key,
                Recorded(launch.entry, units, min(places, launch.tiles) * _size(launch), 1, launch.tiles, True),
            )
            if all(taken != have for have, _ in one.samples):
                one.samples.append((taken, recording))
            return recording, places if taken == units else -(-launch.tiles // taken)
        clusters = math.prod(launch.grid) // _size(launch)
        threads = math.prod(launch.block)
        resident = _resident(threads, launch.smem, registers.get(launch.entry, 0))
        units = -(-clusters // places)
        recording = Recording(clusters=tuple(sorted({0, clusters // 2})))
        one = found.setdefault(
            key, Recorded(launch.entry, units, min(places, clusters) * _size(launch), resident, clusters, False)
        )
        if not one.samples:
            one.samples.append((units, recording))
        return recording, places

    return recorder


def _resident(threads: int, shared: int, registers: int) -> int:
    """CTAs that an SM holds at once (CUDA C++ Programming Guide, technical specifications)."""
    by_registers = _REGISTERS // (threads * max(registers, 1)) if registers else _CTAS
    return max(1, min(_THREADS // threads, _SHARED // (shared + _RESERVED), by_registers, _CTAS))


def _arguments(artifact: Artifact, dims: Mapping[str, int]) -> dict[str, Any]:
    """Inputs of a call. Small ones, and all where some say how rows are grouped, are random; else they are zeros."""
    typed: TypedKernel = artifact.manifest.kernel
    grouped = any(axis.by or axis.upto for arg in typed.args for axis in arg.axes)
    if grouped or sum(math.prod(shape_of(arg, dims)) for arg in typed.args) <= _RANDOM:
        return random_inputs(artifact.manifest, dims)
    found: dict[str, Any] = {}
    for arg in typed.args:
        shape = shape_of(arg, dims)
        if arg.direction == "out":
            continue
        if arg.direction == "param":
            if arg.default is None:
                found[arg.name] = 1
        elif arg.format is None:
            found[arg.name] = np.zeros_like(arrays.empty(shape, str(arg.dtype), "numpy", None))
        else:
            fmt = arg.format
            count = fmt.layout.size(*fmt.scale_grid(shape)) if fmt.scale is not None else 0
            scales = np.zeros(count, np.float32 if fmt.scale == "f32" else np.uint8)
            scale = None if fmt.tensor_scale is None else np.ones(fmt.tensor_scale_shape(shape), np.float32)
            found[arg.name] = Quantized(np.zeros(fmt.codes_shape(shape), np.uint8), scales, scale, fmt, shape)
    return found


def predict(call: Call, rates: Mapping[str, float], *, keep: bool = False) -> list[Predicted]:
    """The launches of a recorded call in time, by parameters (`fp4rt.timing.values`)."""
    from dataclasses import fields

    from fp4emu.timeline import Rates

    numbers: dict[str, Any] = {f.name: rates[f.name] for f in fields(Rates)}
    taken = Rates(**numbers | {"sms": int(rates["sms"])})
    # Each launch reads what the call's tensors have, at most; what it asks L2 for beyond that was there already.
    return [_predicted(one, call, taken, keep=keep) for one in call.launches]


def _predicted(one: Recorded, call: Call, rates: Any, *, keep: bool) -> Predicted:
    timelines: list[tuple[int, Timeline]] = []
    for units, recording in one.samples:
        played = units if one.persistent else min(one.units, 3 * one.resident)
        line, demand = _played(one, recording, call, rates, played, keep=keep)
        timelines.append((played, line))
        if not one.persistent and one.resident < played < one.units:
            from fp4emu.timeline import replay

            timelines.insert(0, (played - one.resident, replay(recording, rates, demand, units=played - one.resident)))
    units, last = timelines[-1]
    cycles = last.cycles
    if units < one.units:
        before, start = (timelines[0][0], timelines[0][1].cycles) if len(timelines) > 1 else (0, 0.0)
        cycles += (one.units - units) * (cycles - start) / (units - before)
    clock = _clock(last, rates)
    return Predicted(one.entry, cycles, rates.launch_seconds + cycles / (clock * 1e9), clock, last, one)


def _played(
    one: Recorded, recording: Recording, call: Call, rates: Any, played: int, *, keep: bool
) -> tuple[Timeline, Any]:
    """The timeline of so many clusters, or of the tiles of one, and what they share with others. What is asked of L2 is
    known once it has been played: the part of it that comes from DRAM is what the call's tensors have."""
    from fp4emu.timeline import Demand, replay

    units = None if one.persistent else played
    demand = Demand(one.active, 1.0, one.resident)
    line = replay(recording, rates, demand, units=units, keep=keep)
    asked = line.load_bytes * one.clusters / max(played, 1)
    if asked > call.read_bytes:
        demand = Demand(one.active, min(1.0, call.read_bytes / asked), one.resident)
        line = replay(recording, rates, demand, units=units, keep=keep)
    return line, demand


def _clock(line: Timeline, rates: Any) -> float:
    """What power leaves of the clock, in GHz."""
    lost = rates.power_tensor * line.busy["tensor core"] + rates.power_dram * line.busy["DRAM"]
    return rates.clock_ghz * max(rates.clock_floor, 1.0 - lost)


def chrome(launches: Sequence[Predicted], about: Mapping[str, Any]) -> dict[str, Any]:
    """The timelines of launches, one behind the other, in the Trace Event Format."""
    from fp4emu.timeline import chrome as made

    spans: list[Any] = []
    begin = 0.0
    for one in launches:
        prefix = f"{one.entry} " if len(launches) > 1 else ""
        spans += [(f"{prefix}{process}", track, what, begin + start, begin + end)
                  for process, track, what, start, end in one.timeline.spans]  # fmt: skip
        begin += one.timeline.cycles
    return made(spans, launches[0].clock_ghz if launches else 1.0, about)
