"""What the items of a file may name: the prelude, the files it uses, and itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fp4cc.diagnostics import Collector, error
from fp4cc.frontend import ast
from fp4cc.source import Span
from fp4num import BlockFormat, ScaleLayout

#: Plain element types of tensors.
TENSOR_TYPES = ("f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32", "u64")
#: Types that a cast can have.
CAST_TYPES = ("f32", "bf16", "f16", "e4m3", "e5m2")
#: Words that mean something in a type or call and cannot be defined.
BUILT_IN_TYPES = (*TENSOR_TYPES, "bool")

ELEMENTWISE = (
    "abs", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf", "relu", "gelu", "gelu_tanh", "silu", "sign",
    "isnan", "fma", "where", "min", "max",
)  # fmt: skip
REDUCTIONS = ("max", "min", "sum", "mean", "mean_square")
TENSOR_FUNCTIONS = ("matmul", "quantize", "dequantize", "hadamard", "unzip", "uniform", "stochastic")
#: Every function that is not defined in the language itself.
BUILT_INS = tuple(dict.fromkeys((*ELEMENTWISE, *REDUCTIONS, *TENSOR_FUNCTIONS, *CAST_TYPES)))

T = TypeVar("T")


@dataclass(slots=True)
class Scope:
    """Definitions by name. A value of None: defined, but wrongly; its uses are not judged.

    `places` are where the file's own definitions stand; while it is read, those of the files it uses. `partial`: one of
    those could not be read, so that an unknown format, layout or function may well be its. `homes` are the scopes of
    the files that functions stand in, by the identity of their node.
    """

    layouts: dict[str, ScaleLayout | None] = field(default_factory=dict[str, "ScaleLayout | None"])
    formats: dict[str, BlockFormat | None] = field(default_factory=dict[str, "BlockFormat | None"])
    functions: dict[str, ast.Function | None] = field(default_factory=dict[str, "ast.Function | None"])
    places: dict[tuple[str, str], Span] = field(default_factory=dict[tuple[str, str], Span])
    partial: bool = False
    homes: dict[int, Scope] = field(default_factory=dict[int, "Scope"])

    def child(self) -> Scope:
        """A scope that sees these definitions and may define them anew."""
        return Scope(dict(self.layouts), dict(self.formats), dict(self.functions), homes=dict(self.homes))

    def home(self, function: ast.Function) -> Scope:
        """What the body of a function sees: the definitions of its own file, not those of its caller's."""
        return self.homes.get(id(function), self)

    def take(self, other: Scope, span: Span, collector: Collector) -> None:
        """See what a used file defines itself."""
        for (kind, name), place in other.places.items():
            if (kind, name) in self.places:
                collector.report(
                    error(
                        "FP2002",
                        f"two used files define the {kind} `{name}`",
                        span,
                        "the second is used here",
                        also=[(self.places[kind, name], "first defined here"), (place, "and here")],
                        help="rename one of them",
                    )
                )
            self.places[kind, name] = place
        self.homes.update(other.homes)
        self.layouts.update({n: v for n, v in other.layouts.items() if ("layout", n) in other.places})
        self.formats.update({n: v for n, v in other.formats.items() if ("format", n) in other.places})
        self.functions.update({n: v for n, v in other.functions.items() if ("function", n) in other.places})


def define(
    kind: str,
    table: dict[str, T | None],
    scope: Scope,
    own: dict[tuple[str, str], Span],
    name: ast.Ident,
    collector: Collector,
    make: Callable[[], T | None],
) -> None:
    """Put a definition of this file in its table; a second one of the same name in the file is reported."""
    key = (kind, name.text)
    taken = BUILT_IN_TYPES if kind == "format" else BUILT_INS if kind == "function" else ()
    if name.text in taken:
        what = "type" if kind == "format" else "function"
        collector.report(
            error(
                "FP2002",
                f"`{name.text}` is a built-in {what}",
                name.span,
                "cannot be defined again",
                help="take another name",
            )
        )
        return
    if key in own:
        collector.report(
            error(
                "FP2002",
                f"the {kind} `{name.text}` is defined twice",
                name.span,
                "defined again",
                also=[(own[key], "first defined here")],
                help="rename or remove one of them",
            )
        )
        return
    if key in scope.places:
        collector.report(
            error(
                "FP2002",
                f"a used file defines the {kind} `{name.text}` already",
                name.span,
                "defined again",
                also=[(scope.places[key], "first defined here")],
                help="rename one of them",
            )
        )
        return
    own[key] = name.span
    table[name.text] = make()
