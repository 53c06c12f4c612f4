"""The model of `fp4cc trace` and `fp4cc explain` beside measured times (trace_hopper.json): how far it is off.

    python benchmarks/trace_model.py record DIR CACHE      runs the artifacts of trace_hopper.py on the emulator
    python benchmarks/trace_model.py compare CACHE         every call: measured, trace, explain; errors of both halves
    python benchmarks/trace_model.py fit CACHE             fits the parameters whose source says so, on one half

Which calls are fitted is drawn by SEED from their names, before anything is measured; the other half is never looked at
by the fit. Only parameters whose source in parameters.toml begins with "fitted" are moved, within their ranges.
"""

from __future__ import annotations

import json
import pickle
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fp4rt.artifact import Artifact
from fp4rt.timing import values
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
    registers = registers_of(next((folder / name).parent.joinpath(name).glob("*.json")).parent)
    return record(artifact, dims, values(TARGET), registers=registers)


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


def seconds(call: Call, rates: Mapping[str, float]) -> float:
    """The predicted time of a call."""
    return sum(one.seconds for one in predict(call, rates))


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
    for name in [n for n in calls if (cache / f"{n}.pickle").exists()]:
        one = predict(loaded(cache, [name])[name], rates)
        found[name] = sum(each.seconds for each in one)
        last = one[-1]
        limit = f"{last.clock_ghz:.2f} GHz, {last.timeline.limit}"
        off = found[name] * 1e6 / calls[name]["us"] - 1
        print(f"{name:28s} {calls[name]['us']:8.2f} {found[name] * 1e6:8.2f} us {off:+7.1%} {limit}", flush=True)
    for title, names in (("fitted", fitted), ("held back", held)):
        print(f"{title}: {summary(errors({name: found[name] for name in names if name in found}, calls))}")


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record_all(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        compare(Path(sys.argv[2]))
