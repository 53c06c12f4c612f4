"""The model of `fp4cc trace` and `fp4cc explain` beside measured times (trace_hopper.json): how far it is off.

    python benchmarks/trace_model.py record DIR CACHE      runs the artifacts of trace_hopper.py on the emulator
    python benchmarks/trace_model.py compare CACHE         every call: measured and trace; errors of both halves
    python benchmarks/trace_model.py explain               the same for the closed form of explain; needs no CACHE
    python benchmarks/trace_model.py fit CACHE SECONDS     fits the parameters of FITTED to one half, prints them
    python benchmarks/trace_model.py published             our kernels on sm_100a beside what others published

Which calls are fitted is drawn by SEED from their names; the other half has no part in the fit. Only parameters whose
source in parameters.toml begins with "fitted" are moved, within their ranges. What is modeled at all (L1, conversions,
how arithmetic and loads overlap) was settled with all calls in sight.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fp4rt.artifact import Artifact
from fp4rt.timing import parameters, values
from fp4rt.timing.emulator import Call, predict, record

HERE = Path(__file__).resolve().parent
SEED = 12
TARGET = "sm_90a"


def halves(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(fitted, held back), by the seed."""
    drawn = sorted(names)
    random.Random(SEED).shuffle(drawn)
    return sorted(drawn[: len(drawn) // 2]), sorted(drawn[len(drawn) // 2 :])


def measured() -> dict[str, dict[str, Any]]:
    """The stored calls by name."""
    table = json.loads((HERE / "trace_hopper.json").read_text())
    return {call["name"]: call for call in table["calls"]}


def recorded(folder: Path, name: str) -> Call:
    """A call on the emulator."""
    artifact = Artifact.load(next((folder / name).glob("*.json")))
    dims = {dim.name: int(dim.value or 0) for dim in artifact.manifest.kernel.dims}
    return record(artifact, dims, values(TARGET), registers=registers_of(folder / name))


def registers_of(folder: Path) -> dict[str, int]:
    """Registers of a thread, by entry."""
    from fp4cc.backend.elf import resource_usage

    found: dict[str, int] = {}
    for cubin in folder.glob("*.cubin"):
        found |= {entry: usage.registers for entry, usage in resource_usage(cubin.read_bytes()).items()}
    return found


def record_all(folder: Path, cache: Path) -> None:
    """Pickles the recording of each call."""
    sys.setrecursionlimit(100_000)
    cache.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        out = cache / f"{path.name}.pickle"
        if out.exists():
            continue
        began = time.time()
        out.write_bytes(pickle.dumps(recorded(folder, path.name)))
        print(f"{path.name:28s} {time.time() - began:6.1f} s, {out.stat().st_size >> 10} KiB", flush=True)


def loaded(cache: Path, names: Iterable[str]) -> dict[str, Call]:
    """Recordings by name."""
    return {name: pickle.loads((cache / f"{name}.pickle").read_bytes()) for name in names}  # noqa: S301  # our own


def errors(found: Mapping[str, float], calls: Mapping[str, dict[str, Any]]) -> list[float]:
    """|predicted / measured - 1|."""
    return [abs(found[name] * 1e6 / calls[name]["us"] - 1) for name in found]


def summary(values_: list[float]) -> str:
    """`median 10.0 %, p90 20.0 %, largest 40.0 %`."""
    ordered = sorted(values_)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return f"median {statistics.median(ordered):.1%}, p90 {p90:.1%}, largest {ordered[-1]:.1%} of {len(ordered)}"


def compare(cache: Path) -> None:
    """Prints each call, and the errors of both halves."""
    calls, rates = measured(), values(TARGET)
    fitted, held = halves(calls)
    found: dict[str, float] = {}
    for name in calls:
        one = predict(loaded(cache, [name])[name], rates)
        found[name] = sum(each.seconds for each in one)
        last = one[-1]
        limit = f"{last.clock_ghz:.2f} GHz, {last.timeline.limit}"
        off = found[name] * 1e6 / calls[name]["us"] - 1
        print(f"{name:28s} {calls[name]['us']:8.2f} {found[name] * 1e6:8.2f} us {off:+7.1%} {limit}", flush=True)
    for title, names in (("fitted", fitted), ("held back", held)):
        print(f"{title}: {summary(errors({name: found[name] for name in names}, calls))}")


def lowered_call(kernel: str, sizes: Mapping[str, int], target: str) -> Any:
    """The plan of a call with all sizes fixed."""
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at
    from fp4cc.driver.stages import lower_kernels
    from fp4cc.explain.work import choose

    lowered, _ = lower_kernels(Request(spec_at(str(HERE / "trace_hopper.fp4")), target, sizes, kernel))
    return choose(lowered[0], {})


def closed_seconds(kernel: str, sizes: Mapping[str, int], target: str) -> float:
    """What `explain` says of a call."""
    from fp4cc.explain.report import call_seconds

    chosen = lowered_call(kernel, sizes, target)
    found = call_seconds(chosen.plan, chosen.sizes)
    assert found is not None
    return found


def compare_closed() -> None:
    """Prints `explain`'s closed form beside the measured calls."""
    calls = measured()
    fitted, held = halves(calls)
    found = {name: closed_seconds(call["kernel"], call["sizes"], TARGET) for name, call in calls.items()}
    for name, call in calls.items():
        off = found[name] * 1e6 / call["us"] - 1
        print(f"{name:28s} {call['us']:8.2f} {found[name] * 1e6:8.2f} us {off:+7.1%}", flush=True)
    for title, names in (("fitted", fitted), ("held back", held)):
        print(f"{title}: {summary(errors({name: found[name] for name in names}, calls))}")


def compare_published(*, replayed: bool) -> None:
    """Prints what the model says of our kernels at sizes of which others published times of theirs on a B200."""
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import spec_at
    from fp4cc.trace.run import traced

    off: dict[str, list[float]] = {"explain": [], "trace": []}
    for call in json.loads((HERE / "published_b200.json").read_text())["calls"]:
        sizes = call["sizes"]
        theirs = 2e-12 * sizes["M"] * sizes["N"] * sizes["K"] / call["tflops"]
        found = {"explain": closed_seconds(call["kernel"], sizes, "sm_100a")}
        if replayed:
            request = Request(spec_at(str(HERE / "trace_hopper.fp4")), "sm_100a", sizes, call["kernel"])
            found["trace"] = traced(request, {}, 3, use_cache=True, step=lambda _: None).seconds
        line = f"{call['kernel']} {'x'.join(map(str, sizes.values())):16s} {theirs * 1e6:8.2f} us by {call['who']:20s}"
        for way, seconds_ in found.items():
            line += f" {way} {seconds_ * 1e6:8.2f} us {seconds_ / theirs - 1:+6.0%}"
            if not call.get("calibrated"):
                off[way].append(abs(seconds_ / theirs - 1))
        print(line, flush=True)
    for way, errors_ in off.items():
        if errors_:
            print(f"{way}: {summary(errors_)}")


#: What is fitted by replays, and its first step; and what follows from the replays' clocks without another one.
FITTED = {"issue": 0.1, "convert": 0.7, "start": 500.0, "tma_row": 0.5, "tma_latency": 100.0, "tma_issue": 8.0}
AFTER = {"launch_seconds": 1e-7, "power_tensor": 0.02, "power_dram": 0.02}
#: (clocks, how busy tensor cores and DRAM are) of each launch.
Replayed = dict[str, list[tuple[float, float, float]]]


def replayed(calls: Mapping[str, Call], rates: Mapping[str, float]) -> Replayed:
    """What the replays of calls give."""
    found: Replayed = {}
    for name, call in calls.items():
        lines = [(one.cycles, one.timeline.busy) for one in predict(call, rates)]
        found[name] = [(cycles, busy["tensor core"], busy["DRAM"]) for cycles, busy in lines]
    return found


def distance(found: Replayed, rates: Mapping[str, float], calls: Mapping[str, dict[str, Any]]) -> float:
    """The mean of |log(predicted / measured)|, a call's bounded by 0.5."""
    total = 0.0
    for name, launches in found.items():
        time_ = 0.0
        for cycles, tensor, dram in launches:
            left = 1.0 - rates["power_tensor"] * tensor - rates["power_dram"] * dram
            clock = rates["clock_ghz"] * 1e9 * max(rates["clock_floor"], left)
            time_ += rates["launch_seconds"] + cycles / clock
        total += min(abs(math.log(time_ * 1e6 / calls[name]["us"])), 0.5)
    return total / len(found)


def settled(found: Replayed, rates: dict[str, float], calls: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """The rates with what needs no replay at its best."""
    for _ in range(3):
        for name, step in AFTER.items():
            tried = [moved(rates, name, by * step) for by in (-3, -1, 0, 1, 3)]
            rates = min(tried, key=lambda one: distance(found, one, calls))
    return rates


def moved(rates: Mapping[str, float], name: str, by: float) -> dict[str, float]:
    """The rates with one of them moved, within its range."""
    one = parameters(TARGET)[name]
    return {**rates, name: min(max(rates[name] + by, one.low), one.high)}


def fit(cache: Path, limit: float) -> None:
    """Moves one parameter after the other for as long as it helps, and for `limit` seconds; prints each step."""
    calls, rates, began = measured(), values(TARGET), time.time()
    half = loaded(cache, halves(calls)[0])
    found = replayed(half, rates)
    rates = settled(found, rates, calls)
    best, steps = distance(found, rates, calls), dict(FITTED)
    while time.time() - began < limit:
        before = best
        for name in steps:
            for by in (steps[name], -steps[name]):
                tried = moved(rates, name, by)
                found = replayed(half, tried)
                tried = settled(found, tried, calls)
                if (new := distance(found, tried, calls)) < best - 5e-4:
                    best, rates = new, tried
                    print(f"{best:.4f}", {key: rates[key] for key in (*FITTED, *AFTER)}, flush=True)
                    break
        if best == before:
            steps = {name: step / 2 for name, step in steps.items()}


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    if command == "record":
        record_all(Path(paths[0]), Path(paths[1]))
    elif command == "fit":
        fit(Path(paths[0]), float(paths[1]))
    elif command == "published":
        compare_published(replayed=True)
    elif command == "explain":
        compare_closed()
    else:
        compare(Path(paths[0]))
