"""How long calls of a kernel take on a GPU, beside cuBLAS for the same products.

    python -m fp4rt.bench ARTIFACT.json --at M=1,16,256 --at N=4096 --at K=4096
    python -m fp4rt.bench ARTIFACT.json --at M=16 --json

It needs torch and no compiler: an artifact made elsewhere by `fp4cc compile` is enough. `fp4cc bench` does the same
and puts the estimate of `fp4cc explain` beside it.

Before it is timed, a call of the same plan is compared with the reference bit for bit. Then CUDA graphs of calls are
replayed in turns: of the kernel, of `torch.mm` in bf16, and of `torch._scaled_mm` in FP8 where the GPU has it. The
calls of a graph go over sets of buffers that together exceed the L2 cache twice, as weights of many layers do. A
figure is the median of several passes, with the quartiles around it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Protocol

from fp4rt.artifact import Artifact
from fp4rt.errors import ArgumentError, RuntimeFault
from fp4rt.inputs import random_inputs
from fp4rt.kernel import Kernel
from fp4rt.resolve import resolve
from fp4rt.signature import complete_dims
from fp4rt.sizes import sizes_text
from fp4rt.trial import run_trial
from fp4rt.typed import TypedKernel
from fp4rt.work import Product, memory, products

PASSES, LAUNCHES = 9, 20
#: What another plan of the same call is called among the peers.
BESIDE = "beside"
#: Multiplications and additions up to which the reference is waited for.
_REFERENCE = 2e10
#: Sizes that open dims get for the comparison where the call itself is too large for the reference.
_SMALLER = (64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds of one call: the median over passes, and the quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Time:
        """The time of a call that took so long in each pass."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0])
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True, slots=True)
class Measured:
    """One call: its sizes, the plan it took, what it multiplies and moves, and how long it and its peers took.

    `plan` is a variant's name, "" for the plan that always applies. `bytes`: each tensor once. `checked` are the sizes
    at which this plan was found equal to the reference, None where any such call takes the reference too long.
    `peers`: cuBLAS on the products alone, by type of element.
    """

    sizes: Mapping[str, int]
    plan: str
    flop: int
    bytes: int
    checked: Mapping[str, int] | None
    time: Time
    peers: Mapping[str, Time]

    @property
    def flops(self) -> float:
        """Multiplications and additions a second."""
        return self.flop / self.time.median

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.bytes / self.time.median

    def json(self) -> dict[str, object]:
        """The figures for machines: seconds, bytes, and their ratios."""
        return {
            "sizes": dict(self.sizes),
            "plan": self.plan,
            "checked": None if self.checked is None else dict(self.checked),
            "flop": self.flop,
            "bytes": self.bytes,
            "seconds": asdict(self.time),
            "flop_per_second": self.flops,
            "bytes_per_second": self.bandwidth,
            "peers": {
                name: {"seconds": asdict(time), "speedup": time.median / self.time.median}
                for name, time in self.peers.items()
            },
        }


class Different(RuntimeFault):
    """The kernel's outputs are not the reference's: its time means nothing (FP6308)."""

    default_code = "FP6308"


Work = Callable[[int], object]


class Bench(Protocol):
    """A device that times work. `fp4rt.cuda.timing.Gpu` is one."""

    def sets(self, size: int) -> int:
        """How many buffers of so many bytes exceed the cache twice."""
        ...

    def placed(self, kernel: TypedKernel, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments in the device's memory, other memory with each call."""
        ...

    def peers(self, parts: Sequence[Product]) -> dict[str, tuple[Work, int]]:
        """What else multiplies matrices of these sizes, by type: the work on a set of buffers, and the sets."""
        ...

    def times(self, work: Mapping[str, tuple[Work, int]], launches: int, passes: int) -> dict[str, list[float]]:
        """Seconds of one run of each work in each pass; all take turns. Set i % sets is used by run i."""
        ...


class Data:
    """Random arguments of a call, and the reference that it is compared with: made anew each time."""

    def arguments(self, kernel: Kernel, dims: Mapping[str, int], *, exact: bool) -> dict[str, Any]:
        """The arguments; with `exact` sums are the same in any order."""
        return random_inputs(kernel.manifest, dims, 0, exact=exact)

    def reference(self, kernel: Kernel, dims: Mapping[str, int]) -> Kernel:
        """The kernel on the reference device."""
        del dims
        return kernel.artifact.load_kernel("reference")


def measure(
    kernel: Kernel,
    sizes: Mapping[str, int],
    bench: Bench,
    *,
    launches: int = LAUNCHES,
    passes: int = PASSES,
    peers: bool = True,
    beside: Kernel | None = None,
    data: Data | None = None,
) -> Measured:
    """Compare a call with the reference, then time it; `sizes` has each dim that the artifact leaves open.

    `peers`: whether cuBLAS is timed too. `beside`: another plan of the same call, not compared, which takes turns with
    this one; its time is that of the peer `BESIDE`. `data`: where arguments and the reference come from.

    Raises Different where an output is not the reference's, and what a call raises for sizes that do not fit.
    """
    typed = kernel.manifest.kernel
    dims = full_sizes(kernel, sizes)
    plan = kernel.resolve(dims).variant
    parts = products(typed, dims)
    data = data or Data()
    checked = check(kernel, dims, data)
    moved = sum(one.total for one in memory(typed, dims))
    arguments = data.arguments(kernel, dims, exact=False)
    bound = [kernel.bind(**bench.placed(typed, arguments)) for _ in range(bench.sets(moved))]
    work: dict[str, tuple[Work, int]] = {"": (lambda i: bound[i](), len(bound))}
    if beside is not None:
        others = [beside.bind(**bench.placed(typed, arguments)) for _ in bound]
        work[BESIDE] = (lambda i: others[i](), len(others))
    work |= bench.peers(parts) if peers else {}
    found = {name: Time.of(times) for name, times in bench.times(work, launches, passes).items()}
    return Measured(
        {d.name: dims[d.name] for d in typed.dims},
        plan,
        sum(part.flop for part in parts),
        moved,
        checked,
        found.pop(""),
        found,
    )


def full_sizes(kernel: Kernel, sizes: Mapping[str, int]) -> dict[str, int]:
    """A size for every dim; ArgumentError names those that are missing."""
    typed = kernel.manifest.kernel
    missing = [d.name for d in typed.dims if d.value is None and d.expr is None and d.name not in sizes]
    if missing:
        raise ArgumentError(
            f"{typed.name} needs a size for {', '.join(missing)}",
            argument=missing[0],
            code="FP6110",
            help=f"give each, for example --at {missing[0]}=4096",
        )
    own = {d.name: d.value if d.value is not None else sizes[d.name] for d in typed.dims if d.expr is None}
    return complete_dims(typed, own)


def check(kernel: Kernel, dims: Mapping[str, int], data: Data | None = None) -> dict[str, int] | None:
    """Compare a call of the plan that these dims take with the reference: these dims, or smaller ones of the same plan.

    The sizes compared; None where all such calls take the reference too long. Raises Different.
    """
    sizes = _sizes_to_check(kernel, dims)
    if sizes is None:
        return None
    data = data or Data()
    arguments = data.arguments(kernel, sizes, exact=True)
    trial = run_trial(kernel, data.reference(kernel, sizes), arguments, sizes)
    wrong = [str(c) for c in trial.comparisons if not c.equal]
    if wrong:
        raise Different(f"{kernel.name} at {sizes_text(sizes)} differs from the reference: {'; '.join(wrong)}")
    return {d.name: sizes[d.name] for d in kernel.manifest.kernel.dims}


def _sizes_to_check(kernel: Kernel, dims: Mapping[str, int]) -> dict[str, int] | None:
    typed, plan = kernel.manifest.kernel, kernel.resolve(dims).variant
    if sum(part.flop for part in products(typed, dims)) <= _REFERENCE:
        return dict(dims)
    open_ = [d.name for d in typed.dims if d.value is None and d.expr is None]
    choices = [[*(size for size in _SMALLER if size < dims[name]), dims[name]] for name in open_]
    for sizes in sorted(itertools.product(*choices), key=prod):
        try:
            tried = full_sizes(kernel, dict(zip(open_, sizes, strict=True)))
            if resolve(kernel.manifest, tried).variant != plan:
                continue
        except RuntimeFault:  # a constraint does not hold
            continue
        return tried if sum(part.flop for part in products(typed, tried)) <= _REFERENCE else None
    return None


# The command line.


def calls_of(given: Sequence[str]) -> list[dict[str, int]]:
    """`["M=1,16", "N=4096"]` as sizes of calls: each combination. ValueError says what cannot be read."""
    lists: dict[str, list[int]] = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not name.isidentifier() or not all(v.isascii() and v.isdigit() for v in values.split(",")):
            raise ValueError(f"{text!r} is not NAME=SIZE or NAME=SIZE,SIZE,...")
        if name in lists:
            raise ValueError(f"{name} is given twice; separate sizes by commas: {name}=1,16")
        lists[name] = [int(v) for v in values.split(",")]
    return [dict(zip(lists, sizes, strict=True)) for sizes in itertools.product(*lists.values())]


def header(peers: Sequence[str]) -> list[str]:
    """What the columns of `row` are called."""
    names = [text for peer in peers for text in (f"cuBLAS {peer}, us", f"x {peer}")]
    return ["us", "quartiles", "TFLOP/s", "GB/s", *names]


def row(found: Measured, peers: Sequence[str]) -> list[str]:
    """A measured call as cells."""
    us = [f"{1e6 * seconds:.2f}" for seconds in (found.time.median, found.time.low, found.time.high)]
    cells = [us[0], f"{us[1]}-{us[2]}", f"{found.flops / 1e12:.1f}", f"{found.bandwidth / 1e9:.0f}"]
    for peer in peers:
        time = found.peers.get(peer)
        cells += ["-", "-"] if time is None else [f"{1e6 * time.median:.2f}", f"{time.median / found.time.median:.2f}"]
    return cells


def unchecked(found: Measured) -> str:
    """What is said of a call that was not compared."""
    return f"not compared with the reference, which would take too long: {sizes_text(found.sizes)}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0; 1 where the artifact, the sizes or the outputs are wrong; 3 without a GPU of its kind."""
    parser = argparse.ArgumentParser(
        "python -m fp4rt.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", help="the manifest that fp4cc compile wrote: NAME.json")
    parser.add_argument("--at", action="append", default=[], metavar="NAME=SIZE[,SIZE...]", help="sizes of calls")
    parser.add_argument("--device", default="cuda", metavar="cuda[:N]", help="which GPU")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(argv)
    try:
        calls = calls_of(options.at)
    except ValueError as error:
        parser.error(str(error))
    try:
        return _run(options.artifact, options.device, calls, as_json=options.json)
    except RuntimeFault as fault:
        help = f"  = help: {fault.help}\n" if fault.help else ""
        sys.stderr.write(f"error[{fault.code}]: {fault.message}\n{help}")
        return 3 if fault.code in ("FP6301", "FP6302") else 1


def _run(path: str, device: str, calls: Sequence[Mapping[str, int]], *, as_json: bool) -> int:
    from fp4rt.cuda.timing import Gpu

    bench = Gpu(device)
    kernel = Artifact.load(path).load_kernel(bench.device)
    found = [measure(kernel, sizes, bench) for sizes in calls]
    if as_json:
        answer = {"kernel": kernel.name, "target": kernel.manifest.target, "device": bench.name}
        sys.stdout.write(json.dumps({**answer, "calls": [one.json() for one in found]}, indent=1) + "\n")
        return 0
    peers = list(dict.fromkeys(name for one in found for name in one.peers))
    names = [d.name for d in kernel.manifest.kernel.dims]
    rows = [[str(one.sizes[n]) for n in names] + [one.plan or "-", *row(one, peers)] for one in found]
    lines = [
        f"{kernel.name} for {kernel.manifest.target} on {bench.name}",
        *_table([[*names, "plan", *header(peers)], *rows]),
        *(unchecked(one) for one in found if one.checked is None),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
