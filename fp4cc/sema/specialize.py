"""Fix dims of a kernel before it is lowered: what `--set N=4096` and `dims={"N": 4096}` mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fp4cc.diagnostics import Collector, did_you_mean, error
from fp4cc.ir.kernel import Kernel
from fp4cc.sema.sizes import check_static


def specialize(kernel: Kernel, sizes: Mapping[str, int]) -> Kernel:
    """The kernel with these dims static, in place of a default or of being dynamic.

    Raises DiagnosticError: for a name that is no dim of the kernel (FP2001), a derived dim or a size below 1 (FP2016),
    and constraints that the sizes break (FP2017).
    """
    collector = Collector()
    known = {d.name: d for d in kernel.dims}
    for name, value in sizes.items():
        if name not in known:
            collector.report(
                error(
                    "FP2001",
                    f"the kernel `{kernel.name}` has no dimension `{name}`",
                    kernel.span,
                    "this kernel",
                    help=did_you_mean(name, known) or f"its dims are {', '.join(known)}",
                )
            )
        elif known[name].expr is not None:
            collector.report(
                error(
                    "FP2016",
                    f"the dimension `{name}` follows from others: it cannot be set",
                    known[name].span,
                    "defined here",
                    help="set the dims that it is defined by",
                )
            )
        elif not 1 <= value < 2**63:
            collector.report(
                error("FP2016", f"the dimension `{name}` is set to {value}", known[name].span, "a size is at least 1")
            )
        else:
            known[name] = replace(known[name], value=value)
    made = replace(kernel, dims=tuple(known.values()))
    check_static(made.constraints, made.dims, collector)
    collector.raise_errors()
    return made
