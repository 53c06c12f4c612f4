"""`reduce atomic`: parts of K that add their share to an output in memory, in whatever order they come.

The sum of the parts' epilogues is the epilogue of the sum only where that is linear in the products, and what was in
memory is a term of the sum only where it is f32 and the output accumulates: `c = c + alpha * (x @ w.T)`. Who would
clear an output that does not accumulate? A fill before each launch is one more launch, and no CTA knows that it is the
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.ir.kernel import Arg, Kernel, Schedule, Store
from fp4cc.passes.problem.roles import multiplies
from fp4cc.passes.problem.unzip import Frame

FIELD = "reduce"
#: What passes each element on, sums of which it is then a sum of.
_MOVES = ("transpose", "neg", "of_group")


def adds_atomically(schedule: Schedule | None) -> bool:
    """Whether a block asks for sums by atomics."""
    return schedule is not None and schedule.fields.get(FIELD) == ("atomic",)


def check_sums(kernel: Kernel, schedules: Iterable[Schedule]) -> None:
    """Raise DiagnosticError (FP4071, FP4072) where a block asks for atomics, and an output cannot be made by them."""
    asked = [schedule for schedule in schedules if adds_atomically(schedule)]
    if asked and multiplies(kernel):
        errors = [found for store in kernel.stores for found in _refusals(kernel, store, asked[0])]
        if errors:
            raise DiagnosticError(errors)


def added(kernel: Kernel, store: Store) -> int | None:
    """The value that a store adds to what its output holds: v of `c = c + v`; None where it does something else."""
    value = kernel.values[store.value]
    if value.op != "add":
        return None
    old = [_is_old(kernel, operand, store.arg) for operand in value.operands]
    return value.operands[old.index(False)] if sum(old) == 1 else None


def adding(frame: Frame) -> Frame:
    """The epilogue whose stores add to what is there, of one that reads that and stores the sum."""
    kernel = frame.kernel
    terms = [added(kernel, store) for store in kernel.stores]
    stores = [replace(s, value=s.value if term is None else term) for s, term in zip(kernel.stores, terms, strict=True)]
    return replace(frame, kernel=replace(kernel, stores=tuple(stores)), adds=True)


def _is_old(kernel: Kernel, index: int, name: str) -> bool:
    value = kernel.values[index]
    return value.op == "arg" and value.attrs.get("name") == name


def _refusals(kernel: Kernel, store: Store, schedule: Schedule) -> Iterator[Diagnostic]:
    arg = kernel.arg(store.arg)
    term, unfit = added(kernel, store), _unfit(arg, store)
    if unfit is None and term is None:
        unfit = "nothing clears an output that is stored, so what is added must be added to what the caller has there"
    if unfit is not None or term is None:
        yield error(
            "FP4071", f"`{arg.name}` is no output that parts of K can add to", schedule.field_spans[FIELD],
            "asked for here", also=[(store.span, "stored here")], notes=[unfit or ""],
            help=f"write `inout {arg.name} : f32[...]` and `{arg.name} = {arg.name} + ...`, or leave `{FIELD}` out",
        )  # fmt: skip
        return
    wrong = _Linear(kernel).wrong(term, store.arg)
    if wrong is not None:
        yield error(
            "FP4072", f"what is added to `{arg.name}` is no sum over the parts of K", schedule.field_spans[FIELD],
            "asked for here", also=[(kernel.values[wrong].span, "this is not linear in the product")],
            notes=["each part adds what it makes of its own share of the product: products, times factors that do not "
                   "depend on them, and sums and differences of such"],
            help=f"leave `{FIELD}` out: then the parts are added up before this is computed",
        )  # fmt: skip


def _unfit(arg: Arg, store: Store) -> str | None:
    """Why no float can be added to an element of the output in memory."""
    if arg.format is not None:
        return "an element of a quantized output is a code under a scale that depends on its neighbors"
    if arg.dtype != "f32":
        return f"a sum is kept in f32, and an element of `{arg.name}` is {arg.dtype}"
    return "its rows are stored by number" if store.at is not None else None


@dataclass(frozen=True, slots=True)
class _Linear:
    kernel: Kernel

    def wrong(self, index: int, name: str) -> int | None:
        """The first value on the way from the products to this one that is not linear in them; None if all are.

        `name`: the output, which must not be read on the way.
        """
        value = self.kernel.values[index]
        if value.op == "matmul":
            return None
        if value.op in ("add", "sub") and all(self._depends(o, name) for o in value.operands):
            return next((w for o in value.operands if (w := self.wrong(o, name)) is not None), None)
        if value.op in _MOVES or (value.op == "cast" and value.dtype == "f32"):
            return self.wrong(value.operands[0], name)
        depends = [self._depends(operand, name) for operand in value.operands]
        if (value.op == "mul" and sum(depends) == 1) or (value.op == "div" and depends == [True, False]):
            return self.wrong(value.operands[depends.index(True)], name)
        return index

    def _depends(self, index: int, name: str) -> bool:
        """Whether a value depends on a product or on what is in the output."""
        value = self.kernel.values[index]
        if value.op == "matmul" or _is_old(self.kernel, index, name):
            return True
        return any(self._depends(operand, name) for operand in value.operands)
