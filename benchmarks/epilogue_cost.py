"""What epilogues cost: registers, stack, and SASS instructions of every example, for sm_100a.

An example with products is compared with the plain kernel of the same ones: each product, or sum of products, is stored
as bf16 as it is, with the same formats and schedule. Instructions are counted once, loops too: what an epilogue adds is
about what a thread does for 32 columns of its row. Kernels of two launches have a row for each; kernels without a
product have nothing to be compared with. `python benchmarks/epilogue_cost.py [SPEC ...]` prints a table in Markdown.
It needs nvdisasm (see `fp4cc doctor`).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from fp4cc.backend import Worker, disassemble, resource_usage
from fp4cc.codegen.emit import emit
from fp4cc.ir.kernel import Arg, Axis, Kernel, Store
from fp4cc.passes import lower
from fp4cc.sema import analyze

EXAMPLES = Path(__file__).parents[1] / "examples"
_OPCODE = re.compile(r"^\s+(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_]+)", re.MULTILINE)


def plain(kernel: Kernel) -> Kernel | None:
    """The kernel with its products, or the sums of several, as its only outputs, in bf16; None without a product."""
    values = kernel.values
    sums = {i for i, value in enumerate(values) if value.op == "matmul"}
    for i, value in enumerate(values):
        if value.op == "add" and sums.issuperset(value.operands):
            sums.add(i)
    if not sums:
        return None
    stored = sums.difference(*(values[i].operands for i in sums))
    axes = {axis.name: axis for arg in kernel.args for axis in arg.axes}
    axes |= {dim.name: Axis(dim.name, dim.name) for dim in kernel.dims if dim.name not in axes}
    outputs = [
        Arg(f"plain{i}", "out", "bf16", tuple(axes[name] for name in values[i].axes), kernel.span)
        for i in sorted(stored)
    ]
    stores = tuple(Store(f"plain{i}", i, kernel.span) for i in sorted(stored))
    needed: set[int] = set()
    pending = list(stored)
    while pending:
        needed.add(index := pending.pop())
        pending.extend(values[index].operands)
    names = {str(values[i].attrs["name"]) for i in needed if values[i].op == "arg"}
    inputs = tuple(arg for arg in kernel.args if arg.name in names)
    return replace(kernel, args=(*inputs, *outputs), stores=stores)


@dataclass(frozen=True)
class Cost:
    """Registers and stack bytes of a thread, and instructions by opcode."""

    registers: int
    stack: int
    opcodes: Counter[str]


def measure(kernel: Kernel) -> list[Cost]:
    """What each launch of a kernel costs."""
    lowered = lower(kernel, "sm_100a")
    found: list[Cost] = []
    with Worker() as worker:
        for plan in (lowered, *lowered.after):
            compiled = worker.compile(emit(plan), "sm_100a")
            (usage,) = resource_usage(compiled.cubin).values()
            found.append(Cost(usage.registers, usage.stack, Counter(_OPCODE.findall(disassemble(compiled.cubin)))))
    return found


def main(paths: list[str]) -> None:
    """Print the table."""
    files = [Path(path) for path in paths] or sorted(EXAMPLES.rglob("*.fp4"))
    print("| spec | kernel | registers | stack | instructions | plain kernel | added | packed `FFMA2 FMUL2 FADD2` |")
    print("|---|---|---|---|---|---|---|---|")
    for path in files:
        for kernel in analyze(path).raise_errors().kernels:
            base = plain(kernel)
            usual = measure(base)[0].opcodes.total() if base is not None else None
            for number, cost in enumerate(measure(kernel)):
                total, compared = cost.opcodes.total(), usual if number == 0 else None
                packed = sum(cost.opcodes[name] for name in ("FFMA2", "FMUL2", "FADD2"))
                beside = (compared, total - compared) if compared is not None else ("", "")
                name = f"{kernel.name}, second launch" if number else kernel.name
                row = (path.name, name, cost.registers, cost.stack, total, *beside, packed)
                print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
