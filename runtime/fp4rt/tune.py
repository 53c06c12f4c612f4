"""Which of several compiled schedules is the fastest on a GPU: the measuring half of `fp4cc tune`.

    fp4cc tune gemm.fp4 --target sm_90a --set M=1,16 --set N=4096 --set K=4096 --prepare work
    python -m fp4rt.tune work
    fp4cc tune gemm.fp4 --from work

The first and the last need the compiler and no GPU, the one between torch, a GPU and no compiler. `fp4cc tune` without
these options does all three. Each schedule is compared with the reference before it is timed (`fp4rt.bench`); one that
differs, or that fails, has no time and is reported. What is done when time is up, or at Ctrl-C, is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fp4rt.artifact import Artifact
from fp4rt.bench import BESIDE, Bench, Data, measure
from fp4rt.errors import RuntimeFault
from fp4rt.kernel import Kernel
from fp4rt.sizes import sizes_text
from fp4rt.tuning import RESULTS, WORK, Attempt, Results, parse_work, read, result_text, today

#: Calls whose arguments are kept at a time.
_MOST_KEPT = 16


class Device(Bench, Protocol):
    """A `Bench` that says what it is. `fp4rt.cuda.timing.Gpu` is one."""

    @property
    def device(self) -> str:
        """The device that kernels are loaded on."""
        ...

    @property
    def name(self) -> str:
        """The product's name."""
        ...

    @property
    def driver(self) -> str:
        """The driver's version."""
        ...


class _Once:
    """The reference of one call, which is made once: all schedules of it get the same arguments."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._known: dict[bool, dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        given = "out" in arguments
        if given not in self._known:
            self._known[given] = self._kernel(**arguments)
        return self._known[given]


class _Kept(Data):
    """The same arguments and the same reference for all schedules of a call: these take longer than the schedules."""

    def __init__(self) -> None:
        self._arguments: dict[object, dict[str, Any]] = {}
        self._references: dict[object, _Once] = {}

    def arguments(self, kernel: Kernel, dims: Mapping[str, int], *, exact: bool) -> dict[str, Any]:
        """As in `Data`, made once."""
        key = (exact, *sorted(dims.items()))
        if key not in self._arguments:
            while len(self._arguments) >= _MOST_KEPT:
                del self._arguments[next(iter(self._arguments))]
            self._arguments[key] = super().arguments(kernel, dims, exact=exact)
        return self._arguments[key]

    def reference(self, kernel: Kernel, dims: Mapping[str, int]) -> Any:
        """As in `Data`, run once."""
        key = tuple(sorted(dims.items()))
        if key not in self._references:
            self._references[key] = _Once(super().reference(kernel, dims))
        return self._references[key]


class Tuner:
    """Measures schedules of one kernel on one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._data = _Kept()

    def attempt(self, name: str, artifact: Artifact, sizes: Mapping[str, int], own: Artifact | None = None) -> Attempt:
        """Compare a call with the reference and time it, in turns with the compiler's own plan where that is given.

        What is wrong with this schedule is in the answer. Raises RuntimeFault where no schedule could be measured: the
        device is not there, or not for this target.
        """
        kernel = artifact.load_kernel(self.device.device)
        beside = None if own is None else own.load_kernel(self.device.device)
        try:
            found = measure(kernel, sizes, self.device, peers=False, beside=beside, data=self._data)
        except RuntimeFault as fault:
            return Attempt(dict(sizes), name, None, None, wrong=fault.message)
        return Attempt(dict(sizes), name, found.time, found.checked, found.peers.get(BESIDE))


class Clock:
    """The seconds that there are. `None`: as long as it takes."""

    def __init__(self, seconds: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = None if seconds is None else now() + seconds

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return self._end is not None and self._now() >= self._end


# The command line.


def measure_folder(
    folder: Path, device: Device, clock: Clock, say: Callable[[str], None], kept: list[Attempt]
) -> Results:
    """Measure what a folder holds; each attempt is put into `kept` at once, and the results into the folder at the end.

    Whatever ends it, Ctrl-C too, the results of what was done are written.
    """
    work, tuner = parse_work(read(folder, WORK)), Tuner(device)
    loaded: dict[str, Artifact] = {}
    todo = [one for turn in work.rounds() for one in turn]
    try:
        for number, (call, way) in enumerate(todo, 1):
            if clock.over:
                say(f"time is up: {len(todo) - number + 1} of {len(todo)} were not measured")
                break
            if way.artifact not in loaded:
                loaded[way.artifact] = Artifact.load(folder / way.artifact / f"{work.kernel}.json")
            own = call.own_of(way, kept)
            artifact, beside = loaded[way.artifact], None if own is None else loaded[own]
            found = tuner.attempt(way.artifact, artifact, call.sizes, beside)
            kept.append(found)
            say(f"{number} of {len(todo)}: {sizes_text(call.sizes)}: {way.label}: {result_text(found)}")
    finally:
        results = Results(work.spec, device.name, device.driver, today(), tuple(kept))
        text = json.dumps(results.json(), indent=1) + "\n"
        (folder / RESULTS).write_text(text, encoding="utf-8")
    return results


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0; 1 where the folder is wrong; 3 without a GPU of its kind; 130 after Ctrl-C.

    141 where the reader of what is printed went away.
    """
    parser = argparse.ArgumentParser(
        "python -m fp4rt.tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what fp4cc tune --prepare made")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="measure no longer than this, about")
    parser.add_argument("--device", default="cuda", metavar="cuda[:N]", help="which GPU")
    options = parser.parse_args(argv)
    try:
        from fp4rt.cuda.timing import Gpu

        clock = Clock(options.budget)
        kept: list[Attempt] = []
        measure_folder(options.folder, Gpu(options.device), clock, _say, kept)
    except RuntimeFault as fault:
        help = f"  = help: {fault.help}\n" if fault.help else ""
        sys.stderr.write(f"error[{fault.code}]: {fault.message}\n{help}")
        return 3 if fault.code in ("FP6301", "FP6302") else 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: what was measured is kept\n")
        return 130
    except BrokenPipeError:  # the reader went away: what was measured is kept
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    sys.stdout.write(f"{options.folder / RESULTS}: {len(kept)} measured\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
