"""What a built-in function needs of who evaluates expressions (`fp4cc.sema.expressions.Evaluator`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fp4cc.frontend import ast
from fp4cc.sema.context import Context
from fp4cc.sema.operands import Operand, Val

Names = Mapping[str, Operand]


class Evaluation(Protocol):
    """Evaluates expressions of one kernel, in which `names` mean operands."""

    @property
    def context(self) -> Context:
        """The kernel that is checked."""
        ...

    def evaluate(self, node: ast.Expr, names: Names) -> Operand:
        """The operand an expression stands for; poison if there is an error in it, which is reported."""
        ...

    def value(self, node: ast.Expr, names: Names) -> Val:
        """The value an expression stands for; `Failed` if it is none."""
        ...

    def number(self, node: ast.Expr, names: Names) -> Val:
        """The f32 value an expression stands for; `Failed` if it is none."""
        ...
