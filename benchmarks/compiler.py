"""How long fp4cc itself takes: compile, front end, import, emulator.

    python benchmarks/compiler.py                 print a table
    python benchmarks/compiler.py --write         and update benchmarks/results.md
    python benchmarks/compiler.py --only cold     one measurement, by part of its name

Every figure is the median of several runs with the least and the greatest, and the median of the processor time. Run it
on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fp4cc.plans import MOST_PLANS

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: threads only cost here

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "examples" / "nvfp4_gemm.fp4"
RESULTS = Path(__file__).with_name("results.md")


@dataclass(frozen=True)
class Run:
    """Seconds on the clock and of processor time, child processes included."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Result:
    """The runs of one measurement, and the limit that the clock should stay under."""

    name: str
    runs: list[Run]
    limit: float | None

    def row(self) -> str:
        walls = [run.wall for run in self.runs]
        cells = [statistics.median(walls), min(walls), max(walls), statistics.median(run.cpu for run in self.runs)]
        shown = " | ".join(map(_ms, cells))
        return f"| {self.name} | {shown} | {len(self.runs)} | {'-' if self.limit is None else _ms(self.limit)} |"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _environment(cache: str) -> dict[str, str]:
    return {**os.environ, "FP4CC_CACHE_DIR": cache}


def _compile_once(cache: str, out: str, plans: int) -> Run:
    command = [sys.executable, "-m", "fp4cc", "compile", str(SPEC), "-o", out, "--plans", str(plans)]
    return _timed(lambda: subprocess.run(command, env=_environment(cache), check=True, capture_output=True))


def cold_compile(plans: int) -> list[Run]:
    """A whole `fp4cc compile` process with an empty cache, up to so many plans by size."""
    runs: list[Run] = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(_compile_once(f"{folder}/cache", f"{folder}/out", plans))
    return runs


def cached_compile() -> list[Run]:
    """The same with the result in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        _compile_once(f"{folder}/cache", f"{folder}/out", MOST_PLANS)
        return [_compile_once(f"{folder}/cache", f"{folder}/out", MOST_PLANS) for _ in range(11)]


def front_end(plans: int) -> list[Run]:
    """Text to lowered kernel with up to so many plans by size, in a process that has done it once."""
    from fp4cc.driver.request import Request
    from fp4cc.driver.spec import read_spec
    from fp4cc.driver.stages import lower_kernels

    spec = read_spec(SPEC)
    # A text of its own for each run: the driver remembers what it has checked.
    requests = iter([Request(replace(spec, text=spec.text + "\n" * i), plans=plans) for i in range(32)])
    lower_kernels(next(requests))
    return [_timed(lambda: lower_kernels(next(requests))) for _ in range(31)]


_CLOCKS = "import time; w, c = time.perf_counter(), time.process_time()"
_READ_CLOCKS = "print(time.perf_counter() - w, time.process_time() - c)"


def import_runtime() -> list[Run]:
    """`import fp4rt` in a fresh process."""
    return [_python("import fp4rt") for _ in range(11)]


def load_runtime() -> list[Run]:
    """`import fp4rt` and the names a program uses, which bring numpy, in a fresh process."""
    return [_python("import fp4rt; fp4rt.load; fp4rt.quantize; fp4rt.Artifact") for _ in range(11)]


def _python(code: str) -> Run:
    """Run code in a fresh process and time it there, without the start of the interpreter."""
    command = [sys.executable, "-c", f"{_CLOCKS}\n{code}\n{_READ_CLOCKS}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, cpu = map(float, done.stdout.split())
    return Run(wall, cpu)


def emulator(size: int, runs: int, order: Literal["strict"] | None = None) -> Callable[[], list[Run]]:
    """An NVFP4 GEMM of size^3 on the emulator in the plan of large sizes: 2-CTA, tiles of 256 x 256. With `order`, the
    order of its accesses is proved."""

    def measure() -> list[Run]:
        import fp4cc
        import fp4rt
        from fp4rt.devices.emulator import EmulatorDevice

        artifact = fp4cc.compile(SPEC, plans=1)
        assert artifact.manifest.plan.launches[0].cluster[0] % 2 == 0, "the schedule is not 2-CTA"
        kernel = fp4rt.Kernel(artifact, EmulatorDevice(order=order))
        inputs: dict[str, Any] = fp4rt.random_inputs(artifact.manifest, {"M": size, "N": size, "K": size}, seed=0)
        kernel(**inputs)
        return [_timed(lambda: kernel(**inputs)) for _ in range(runs)]

    return measure


def _timed(work: Callable[[], object]) -> Run:
    wall, cpu = time.perf_counter(), _cpu()
    work()
    return Run(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    """Processor seconds of this process and of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


MEASUREMENTS: dict[str, tuple[Callable[[], list[Run]], float | None]] = {
    "cold `fp4cc compile --plans 1`, whole process": (partial(cold_compile, 1), 3.0),
    "cold `fp4cc compile` of all plans by size, whole process": (partial(cold_compile, MOST_PLANS), 6.0),
    "cached `fp4cc compile`, whole process": (cached_compile, 0.5),
    "front end: text to lowered kernel, one plan": (partial(front_end, 1), 0.05),
    "front end: text to lowered kernel, all plans by size": (partial(front_end, MOST_PLANS), 0.1),
    "`import fp4rt`": (import_runtime, 0.15),
    "`import fp4rt` with load and quantize": (load_runtime, None),
    "emulator, NVFP4 1024^3, 2-CTA": (emulator(1024, 3), 1.5),
    "emulator, NVFP4 2048^3, 2-CTA": (emulator(2048, 2), 12.0),
    "emulator, NVFP4 1024^3, 2-CTA, order strict": (emulator(1024, 3, "strict"), 4.5),
    "emulator, NVFP4 2048^3, 2-CTA, order strict": (emulator(2048, 2, "strict"), 36.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update benchmarks/results.md")
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    options = parser.parse_args()
    lines = ["| what | median | least | greatest | processor | runs | limit |", "|---|---|---|---|---|---|---|"]
    for name, (measure, limit) in MEASUREMENTS.items():
        if options.only in name:
            lines.append(Result(name, measure(), limit).row())
            print(lines[-1], flush=True)
    if options.write:
        heading = (
            "# Compiler timings\n\n"
            f"Measured {datetime.date.today().isoformat()} by `python benchmarks/compiler.py --write` on "
            f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')}, Python {platform.python_version()}.\n"
            "The least and the greatest of the runs show the noise; the median of the processor time, child processes\n"
            "included, hardly depends on what else the machine does.\n\n"
        )
        RESULTS.write_text(heading + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
