"""`python -m tests.mutator`: breaks our kernels at one point after the other, and lists what nothing finds.

Without options, all of it: hours. `--kernel NAME` (again and again), `--sample N` mutants a kernel, `--seed S` another
sample; `--list` counts them. Status 1 if a mutant survives that has no reason (`survivors.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import fp4cc

from .kernels import SUBJECTS, Broken, Subject
from .run import Verdict, judged, sampled
from .survivors import reason


def broken(subject: Subject) -> Broken:
    """A subject, compiled by way of the compiler's cache."""
    return Broken(subject, fp4cc.compile(subject.spec, target=subject.target))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutator", description=__doc__)
    parser.add_argument("--kernel", action="append", choices=[s.name for s in SUBJECTS])
    parser.add_argument("--sample", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    unexplained = 0
    for subject in SUBJECTS:
        if options.kernel and subject.name not in options.kernel:
            continue
        unexplained += _kernel(subject, options)
    return 1 if unexplained else 0


def _kernel(subject: Subject, options: argparse.Namespace) -> int:
    out = sys.stdout
    kernel = broken(subject)
    chosen = sampled(kernel, options.sample, options.seed)
    if options.list:
        counts = Counter(f"{m.instead[-1].rule.opcode if m.kind != 'dropped' else 'dropped'}" for _, _, m in chosen)
        out.write(f"{subject.name}: {len(chosen)} mutants; {dict(counts.most_common())}\n")
        return 0
    started, found, survivors = time.perf_counter(), Counter[str](), list[Verdict]()
    for verdict in judged(kernel, chosen):
        found[verdict.found or "survived"] += 1
        if not verdict.found:
            survivors.append(verdict)
            why = reason(subject.name, verdict)
            out.write(f"  {subject.name}: {verdict.title} ({verdict.around}): {why or 'NOTHING FINDS IT'}\n")
            out.flush()
    unexplained = [verdict for verdict in survivors if reason(subject.name, verdict) is None]
    seconds = time.perf_counter() - started
    out.write(
        f"{subject.name}: {len(chosen)} mutants in {seconds:.0f} s; {dict(found)}; {len(unexplained)} unexplained\n"
    )
    out.flush()
    return len(unexplained)


if __name__ == "__main__":
    sys.exit(main())
