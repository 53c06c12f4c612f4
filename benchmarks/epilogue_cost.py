"""What epilogues cost: registers, stack, and SASS instructions of every example with a product, for sm_100a.

An example is compared with the plain kernel of the same product: `c = a @ b.T` to bf16, in the same formats, with the
same schedule. Instructions are counted once, loops too: what an epilogue adds is about what a thread does for 32
columns of its row. `python benchmarks/epilogue_cost.py [SPEC ...]` prints a table in Markdown. It needs nvdisasm (see
`fp4cc doctor`).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from fp4cc.backend import Worker, disassemble, resource_usage
from fp4cc.codegen.emit import emit
from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Arg, Kernel, Store
from fp4cc.passes import lower
from fp4cc.sema import analyze

EXAMPLES = Path(__file__).parents[1] / "examples"
_OPCODE = re.compile(r"^\s+(?:/\*[0-9a-f]+\*/)?\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_]+)", re.MULTILINE)


def plain(kernel: Kernel) -> Kernel | None:
    """The kernel with its product as the only output, in bf16; None where it has no product, or several."""
    products = [i for i, value in enumerate(kernel.values) if value.op == "matmul"]
    if len(products) != 1:
        return None
    product = kernel.values[products[0]]
    axes = {axis.name: axis for arg in kernel.args for axis in arg.axes}
    output = Arg("plain", "out", "bf16", tuple(axes[name] for name in product.axes), kernel.span)
    names = {str(kernel.values[i].attrs["name"]) for i in range(products[0]) if kernel.values[i].op == "arg"}
    inputs = tuple(arg for arg in kernel.args if arg.name in names)
    values = kernel.values[: products[0] + 1]
    return replace(kernel, args=(*inputs, output), values=values, stores=(Store("plain", products[0], kernel.span),))


def measure(kernel: Kernel) -> tuple[int, int, Counter[str]]:
    """Registers and stack bytes of a thread, and instructions by opcode."""
    with Worker() as worker:
        compiled = worker.compile(emit(lower(kernel, "sm_100a")), "sm_100a")
    (usage,) = resource_usage(compiled.cubin).values()
    return usage.registers, usage.stack, Counter(_OPCODE.findall(disassemble(compiled.cubin)))


def main(paths: list[str]) -> None:
    """Print the table."""
    files = [Path(path) for path in paths] or sorted(EXAMPLES.rglob("*.fp4"))
    print("| spec | kernel | registers | stack | instructions | plain kernel | added | packed `FFMA2 FMUL2 FADD2` |")
    print("|---|---|---|---|---|---|---|---|")
    for path in files:
        for kernel in analyze(path).raise_errors().kernels:
            base = plain(kernel)
            if base is None:
                continue
            try:
                registers, stack, opcodes = measure(kernel)
                _, _, baseline = measure(base)
            except DiagnosticError:
                continue  # it runs on the reference only, or on another target
            total, plain_total = opcodes.total(), baseline.total()
            packed = sum(opcodes[name] for name in ("FFMA2", "FMUL2", "FADD2"))
            row = (path.name, kernel.name, registers, stack, total, plain_total, total - plain_total, packed)
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
