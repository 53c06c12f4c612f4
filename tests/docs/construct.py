"""A construct of docs/language.md as a small spec, and what each target makes of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cache

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.kernel import Kernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.sema.schedules import TARGETS
from fp4cc.source import Source

GEMM = "in a : nvfp4[M, K]; in b : nvfp4[N, K]"
PLAIN = "in x : bf16[M, N]"


@cache
def checked(text: str) -> tuple[Kernel, ...]:
    """The kernels of a spec without errors: the same for all targets where it has no schedule."""
    return tuple(analyze(Source("spec.fp4", text)).raise_errors().kernels)


@dataclass(frozen=True)
class Construct:
    """A construct in words, and a spec that has it. `TARGET` in the text stands for the target asked."""

    title: str
    text: str

    @functools.cache  # noqa: B019  # there are as many as the page has lines
    def answer(self, target: str) -> str:
        """ "" where the target compiles it, else the codes that refuse it. A spec that is no spec fails."""
        codes: set[str] = set()
        for kernel in checked(self.text.replace("TARGET", target)):
            try:
                lower(kernel, target)
            except DiagnosticError as refused:
                codes |= {d.code for d in refused.diagnostics if d.severity == "error"}
        return ", ".join(sorted(codes))

    def answers(self) -> dict[str, str]:
        """The answer of each target that a schedule can name."""
        return {target: self.answer(target) for target in sorted(TARGETS)}


def product(
    title: str, store: str = "c = a @ b.T", *, more: str = "", out: str = "out c : bf16[M, N]", **options: str
) -> Construct:
    """A construct around `a @ b.T` of nvfp4: further arguments, outputs and statements."""
    dims, schedule = options.get("dims", "M, N, K"), options.get("schedule", "")
    text = f"kernel k({dims}) {{ {options.get('args', GEMM)}; {more}; {out}; {store} }}\n".replace("; ;", ";")
    return Construct(
        title, options.get("items", "") + text + (f"schedule k on TARGET {schedule}\n" if schedule else "")
    )


def plain(
    title: str, store: str, *, out: str = "out y : bf16[M, N]", args: str = PLAIN, dims: str = "M, N", items: str = ""
) -> Construct:
    """A construct of a kernel without a product."""
    return Construct(title, f"{items}kernel k({dims}) {{ {args}; {out}; {store} }}\n")
