"""SASS instructions of an epilogue's innermost loops for sm_100a: what a thread runs for 32 columns of its row.

    python benchmarks/epilogue_loops.py                        (with NVIDIA's nvdisasm, of nvidia-cuda-nvdisasm)
    python benchmarks/epilogue_loops.py --only nvfp4_gemm

Of each kernel the plan for all sizes. A loop is one in which sums are read from tensor memory; those that a call of
other sizes takes are listed too, in the order of the code, and those of a split of K before them. Instructions that one
lane alone executes are counted like others, and so are branches that are not taken. What a loop does for several reads
of 32 columns is divided by their number.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from fp4cc.backend import kept_worker, resource_usage
from fp4cc.backend.sass import disassemble
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.build import build
from fp4cc.driver.request import Request
from fp4cc.driver.spec import Spec
from fp4cc.sema import analyze
from fp4cc.source import Source

ROOT = Path(__file__).resolve().parents[1]
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(.*?);")
_BACK = re.compile(r"BRA(?:\.U)?(?:\.ANY)?\s.*`\((\.L_x_\d+)\)")


def loops(sass: str) -> Iterator[tuple[int, int]]:
    """(instructions, reads of 32 columns) of each innermost loop that reads tensor memory, in order."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if line.startswith(".L_x"):
            labels[line.rstrip(":")] = len(instructions)
        elif found := _INSTRUCTION.search(line):
            instructions.append(found[1])
    seen: set[tuple[int, int]] = set()
    for at, text in enumerate(instructions):
        if "LDTM" not in text:
            continue
        for end in range(at, len(instructions)):
            back = _BACK.search(instructions[end])
            if back is not None and labels.get(back[1], at + 1) <= at:
                seen.add((labels[back[1]], end))
                break
    for first, last in sorted(seen):
        reads = sum("LDTM" in text for text in instructions[first : last + 1])
        yield last - first + 1, reads


def rows(path: Path) -> Iterator[str]:
    """A row of the table for each module of a spec."""
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT / "examples"))
    for kernel in (k.name for k in analyze(Source(name, text), path.parent).raise_errors().kernels):
        try:
            built = build(Request(Spec(name, text, path.parent), "sm_100a", kernel=kernel, plans=1))
        except DiagnosticError:
            continue
        for made in built.kernels:
            for file, data in sorted(made.files.items()):
                if not file.endswith(".cubin"):
                    continue
                found = [f"{count / reads:g}" for count, reads in loops(disassemble(data))]
                (usage,) = resource_usage(data).values()
                if found:
                    yield f"| {name} | {file.removesuffix('.cubin')} | {usage.registers} | {', '.join(found)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only specs with this in their path")
    only = parser.parse_args().only
    print("| spec | kernel | registers | instructions for 32 columns |\n|---|---|---|---|")
    with kept_worker():
        for path in sorted((ROOT / "examples").glob("*.fp4")):
            if only in path.name:
                for row in rows(path):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
