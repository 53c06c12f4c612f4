"""A quantizer rule written down: straight-line programs of single-rounded operations.

`Recorder` is an `Ops` whose values are names. Running a rule on it gives the steps that a code generator emits one for
one and that docs/numerics.md prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fp4num.codecs import Rounding
from fp4num.ops import FloatOp, IntOp, Test


@dataclass(frozen=True, slots=True)
class Step:
    """`result = op(operands)`.

    `op` is a `FloatOp`, `IntOp` or `Test` of ops.py, or constant, integer, select, either, absolute, bits, encode or
    decode. `value` is set for constant (exactly a float32) and integer; `element` and `rounding` for encode and decode.
    """

    result: str
    op: str
    operands: tuple[str, ...] = ()
    value: float | int | None = None
    element: str | None = None
    rounding: Rounding | None = None
    #: Whether the rule gave `result` its name; other names are t1, t2, ..
    named: bool = False

    def __str__(self) -> str:
        if self.op in ("constant", "integer"):
            return f"{self.result} = {self.value!r}"
        detail = [self.element] if self.element else []
        detail += [self.rounding] if self.rounding else []
        return f"{self.result} = {self.op}({', '.join([*self.operands, *detail])})"


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order, without dead ones. `inputs` that no step reads are still listed."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


@dataclass(slots=True)
class Recorder:
    """`Ops` that records. Make one, name its inputs, run a rule, then take `program`."""

    steps: list[Step] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def input(self, name: str) -> str:
        """An input of the program."""
        self.names.add(name)
        return name

    def program(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Program:
        """What was recorded, less the steps on which no output depends."""
        live, kept = set(outputs), list[Step]()
        for step in reversed(self.steps):
            if step.result in live:
                live.update(step.operands)
                kept.append(step)
        kept.reverse()
        temporaries = [step.result for step in kept if not step.named]
        names = {name: f"t{n}" for n, name in enumerate(temporaries, start=1)}

        def renamed(step: Step) -> Step:
            operands = tuple(names.get(name, name) for name in step.operands)
            return replace(step, result=names.get(step.result, step.result), operands=operands)

        return Program(inputs, tuple(map(renamed, kept)), tuple(names.get(name, name) for name in outputs))

    def constant(self, value: float) -> str:
        return self._add("constant", value=float(np.float32(value)))

    def integer(self, value: int) -> str:
        return self._add("integer", value=value)

    def float_op(self, op: FloatOp, a: str, b: str) -> str:
        return self._add(op, a, b)

    def int_op(self, op: IntOp, a: str, b: str) -> str:
        return self._add(op, a, b)

    def test(self, op: Test, a: str, b: str) -> str:
        return self._add(op, a, b)

    def select(self, condition: str, yes: str, no: str) -> str:
        return self._add("select", condition, yes, no)

    def either(self, a: str, b: str) -> str:
        return self._add("either", a, b)

    def absolute(self, x: str) -> str:
        return self._add("absolute", x)

    def bits(self, x: str) -> str:
        return self._add("bits", x)

    def encode(self, x: str, element: str, rounding: Rounding = "nearest") -> str:
        return self._add("encode", x, element=element, rounding=rounding)

    def decode(self, code: str, element: str) -> str:
        return self._add("decode", code, element=element)

    def name(self, name: str, value: str) -> str:
        """Renames the step that made `value`, if it was recorded last; an input or an earlier step keeps its name."""
        fresh = self._fresh(name)
        if not self.steps or self.steps[-1].result != value:
            return value
        last = self.steps.pop()
        self.names.discard(value)
        self.steps.append(replace(last, result=fresh, named=True))
        self.names.add(fresh)
        return fresh

    def _add(
        self,
        op: str,
        *operands: str,
        value: float | int | None = None,
        element: str | None = None,
        rounding: Rounding | None = None,
    ) -> str:
        for step in self.steps:  # one name a constant
            if value is not None and step.op == op and step.value == value:
                return step.result
        result = self._fresh(f"step {len(self.steps)}")
        self.names.add(result)
        self.steps.append(Step(result, op, operands, value, element, rounding))
        return result

    def _fresh(self, name: str) -> str:
        base, n = name, 1
        while name in self.names:
            n += 1
            name = f"{base}_{n}"
        return name
