"""Names for sizes that a manifest's plans share: they stand for what they replace, and it gets small."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from fp4cc.codegen import manifest as describing
from fp4cc.codegen.sharing import shared
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.derived import Known, Least
from fp4rt.manifest import Init, Manifest, Plan, dumps, loads
from fp4rt.plan import WORKSPACE
from fp4rt.resolve import resolve
from fp4rt.sizes import SizeError, evaluate
from fp4rt.strict import Expr
from fp4rt.typed import Dim, TypedKernel

ROOT = Path(__file__).resolve().parents[2]
GEMM = "kernel k(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : bf16[M, N]; c = a @ b.T }}\n"
KERNEL = TypedKernel("k", (Dim("M"), Dim("N"), Dim("K")), (), (), ())


def value(expr: Expr, dims: dict[str, int]) -> object:
    try:
        return evaluate(expr, dims)
    except SizeError:
        return "no value"


def test_names_stand_for_what_they_replace() -> None:
    """Of random sizes with parts in common, among them the least of some of one form."""
    draw, leasts, commons = random.Random(5), 0, 0

    def time(tile: int, parts: int) -> Expr:
        tiles: Expr = ("mul", ("ceildiv", "M", tile), ("ceildiv", "N", 128))
        tiles = tiles if parts == 1 else ("mul", tiles, parts)
        own: Expr = ("max", ("mul", ("ceildiv", "K", 64 * parts), tile), 50 * parts)
        return ("add", ("mul", ("mul", ("ceildiv", tiles, 148), own), 16), parts)

    def size(depth: int) -> Expr:
        if not depth or draw.random() < 0.15:
            return draw.choice(["M", "N", "K", draw.randrange(1, 40)])
        if draw.random() < 0.3:
            tile = draw.choice((32, 64))
            return ("min", *(time(tile, parts) for parts in range(1, draw.randrange(3, 6))))
        operator = draw.choice(("add", "mul", "min", "max", "sub", "floordiv", "ceildiv", "le", "where", "and", "div"))
        return (operator, *(size(depth - 1) for _ in range(3 if operator == "where" else 2)))

    for _ in range(30):
        exprs = [size(3) for _ in range(draw.randrange(1, 5))]
        exprs += [("add", expr, 1) for expr in exprs[:2]]
        plan = Plan((), init=tuple(Init(WORKSPACE, expr) for expr in exprs))
        made = shared(Manifest("k", "sm_100a", KERNEL, plan))
        leasts += sum(isinstance(each, Least) for each in made.shared)
        commons += sum(not isinstance(each, Least) for each in made.shared)
        assert loads(dumps(made)) == made
        for _ in range(4):
            dims = {name: draw.choice((0, 1, draw.randrange(1 << 13), 1 << 22)) for name in "MNK"}
            found = [value(init.count, Known(dims, made.shared)) for init in made.plan.init]
            assert found == [value(expr, dims) for expr in exprs], exprs
    assert leasts > 8
    assert commons > 15


@pytest.mark.parametrize(("a", "b", "target"), [
    ("nvfp4", "nvfp4", "sm_100a"),
    pytest.param("bf16", "bf16", "sm_100a", marks=pytest.mark.slow),
    pytest.param("bf16", "nvfp4", "sm_90a", marks=pytest.mark.slow),
])  # fmt: skip
def test_calls_are_what_they_were_and_the_manifest_is_small(
    a: str, b: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all sizes open: a third of what it was without names."""
    lowered = lower(analyze(Source("k.fp4", GEMM.format(a=a, b=b))).raise_errors().kernels[0], target, 6)
    small = describing.manifest(lowered, {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(describing, "shared", lambda made: made)
        plain = describing.manifest(lowered, {}, {})
    assert len(dumps(small)) < 0.45 * len(dumps(plain))
    assert len(dumps(small)) < 46_000
    assert loads(dumps(small)) == small
    draw, taken = random.Random(7), set[str]()
    for _ in range(24):
        dims = {"M": draw.choice((0, 1, 2 ** draw.randrange(14), draw.randrange(1, 9000))),
                "N": 256 * draw.randrange(1, 90), "K": 256 * draw.randrange(1, 60)}  # fmt: skip
        call = resolve(small, dims)
        taken.add(call.variant)
        assert call == resolve(plain, dims)
    assert len(taken) > 3


def test_nothing_is_named_twice() -> None:
    """What has names already keeps them, and gets no others."""
    plan = Plan((), workspace=("mul", ("ceildiv", ("add", "M", 127), 128), ("ceildiv", ("add", "N", 127), 128), 4096))
    made = shared(Manifest("k", "sm_100a", KERNEL, replace(plan, init=(Init(WORKSPACE, plan.workspace),))))
    (common,) = made.shared
    assert made.plan.workspace == made.plan.init[0].count == ".size0"
    assert common.names == (".size0",)
