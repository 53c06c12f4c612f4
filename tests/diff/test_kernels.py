"""What an edit changes: each kind of edit by itself, and every operator of every spec that is here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fp4cc.diff import Aspect, compare
from fp4cc.diff.kernels import compare_kernels
from fp4cc.ir.kernel import Kernel, Value
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.ops import OPS

ROOT = Path(__file__).parents[2]
SPECS = sorted(
    [
        *(ROOT / "examples").glob("*.fp4"),
        *(ROOT / "examples" / "recipes").glob("*.fp4"),
        ROOT / "tests" / "sema" / "specs" / "language.fp4",
    ]
)
MLP = """\
fn act(x, g) = gelu(g * x)
format mine extends nvfp4 { quantizer nvfp4_modelopt }

kernel mlp(M, N = 512, K) where M % 8 == 0 {
    in    x    : nvfp4[M, K]
    in    w    : nvfp4[N, K]
    in    bias : bf16[N]
    in    rng  : u64[2]
    in    ts   : f32[]
    param gain : f32 = 1.0
    out   y    : bf16[M, N]
    out   q    : mine[M, N]
    out   top  : f32[M]

    h   = act(x @ w.T, gain) + bias
    y   = where(h > 0, h, 0.25 * h)
    q   = quantize(h, tensor_scale = ts, rounding = stochastic(rng, stream = 1))
    top = max(abs(h), over = N)
}
schedule mlp on sm_100a when M <= 128 { tile 128 x 64 x 256; stages 3 }
schedule mlp on sm_100a { tile 128 x 128 x 256 }
schedule mlp on sm_90a { stages 4 }
"""


def kernels(text: str) -> tuple[Kernel, ...]:
    return analyze(Source("spec.fp4", text)).raise_errors().kernels


def aspects(before: str, after: str) -> tuple[Aspect, ...]:
    (found,) = compare(kernels(before), kernels(after))
    return found.aspects


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"\bh\b", "hidden"),
        (r"# nothing", "# something"),
        (r"\(g \* x\)", "(x * g)"),
        (r"act\(x @ w\.T, gain\) \+ bias", "bias + gelu(gain * (x @ w.T))"),
        (r"fn act\(x, g\) = gelu\(g \* x\)", "fn act(value, by) = gelu(by * value)"),
        (r"\bact\b", "activation"),
        (r"extends nvfp4 {", "extends nvfp4_2d { scale e4m3 per 1 x 16;"),
        (r"\bmine\b", "yours"),
        (r"M % 8 == 0", "(M % 8) == 0"),
        (r"    in    x .*\n(    in    w .*\n)", r"\1    in    x    : nvfp4[M, K]\n"),
        (r"    y   = .*\n(    q   = .*\n)", r"\1    y   = where(h > 0, h, 0.25 * h)\n"),
        (r"(schedule mlp on sm_100a when .*\n.*\n)(schedule mlp on sm_90a.*\n)", r"\2\1"),
        (r"tile 128 x 64 x 256; stages 3", "stages 3; tile 128 x 64 x 256"),
    ],
)  # fmt: skip
def test_nothing_changes(old: str, new: str) -> None:
    text = "# nothing\n" + MLP
    edited, count = re.subn(old, new, text)
    assert count
    assert aspects(text, edited) == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("gelu(g", "gelu_tanh(g", "numerics"),
        ("g * x", "g + x", "numerics"),
        ("g * x", "x", "numerics"),
        ("0.25", "0.5", "numerics"),
        ("h > 0", "h >= 0", "numerics"),
        ("where(h > 0, h, 0.25 * h)", "where(h > 0, 0.25 * h, h)", "numerics"),
        ("+ bias", "+ 2 * bias", "numerics"),
        ("stream = 1", "stream = 2", "numerics"),
        (", rounding = stochastic(rng, stream = 1)", "", "numerics"),
        ("tensor_scale = ts", "amax = ts", "numerics"),
        ("max(abs(h)", "max(h", "numerics"),
        ("= max(", "= sum(", "numerics"),
        ("nvfp4_modelopt", "nvfp4_ct", "numerics"),
        ("x @ w.T", "bf16(x @ w.T)", "numerics"),
        ("quantizer nvfp4_modelopt", "layout linear; quantizer nvfp4_modelopt", "layout"),
        ("= 1.0", "= 2.0", "interface"),
        ("= 512", "= 1024", "interface"),
        ("= 512", "", "interface"),
        (" where M % 8 == 0", "", "interface"),
        ("M % 8", "M % 4", "interface"),
        ("bias", "offset", "interface"),
        ("kernel mlp", "kernel net", "interface schedule"),
        ("tile 128 x 64", "tile 128 x 32", "schedule"),
        ("stages 3", "cluster 1 x 2", "schedule"),
        ("M <= 128", "M <= 64", "schedule"),
        ("schedule mlp on sm_90a { stages 4 }", "", "schedule"),
        ("bias : bf16", "bias : f32", "interface numerics"),
        ("y    : bf16", "y    : f32", "interface numerics"),
        ("w    : nvfp4[", "w    : mine[", ""),
        ("w    : nvfp4[", "w    : nvfp4_2d[", "numerics"),
    ],
)  # fmt: skip
def test_one_edit(old: str, new: str, expected: str) -> None:
    edited = MLP.replace(old, new)
    if "kernel net" in edited:
        edited = re.sub(r"schedule.*\n", "", edited)
    assert edited != MLP
    assert set(aspects(MLP, edited)) == set(expected.split())
    assert set(aspects(edited, MLP)) == set(expected.split())


def test_renamed_dims_and_arguments_are_interface_only() -> None:
    text = MLP[: MLP.index("schedule")]
    assert aspects(text, re.sub(r"\bM\b", "T", re.sub(r"\bx\b", "inputs", text))) == ("interface",)


def test_a_long_chain_of_operations() -> None:
    lines = "".join(f"    v{i + 1} = v{i} + v{i} * 0.5\n" for i in range(1500))
    text = f"kernel k(M) {{\n in x : f32[M]\n out y : f32[M]\n v0 = abs(x)\n{lines}    y = v1500\n}}\n"
    assert aspects(text, text) == ()
    assert aspects(text, text.replace("abs(x)", "-x")) == ("numerics",)


def test_kernels_that_come_and_go() -> None:
    other = MLP[: MLP.index("schedule")].replace("kernel mlp", "kernel more")
    found = compare(kernels(MLP), kernels(MLP + other[other.index("kernel") :]))
    assert [(k.before, k.after, k.aspects) for k in found] == [("mlp", "mlp", ()), (None, "more", ("interface",))]
    found = compare(kernels(MLP + other[other.index("kernel") :]), kernels(MLP))
    assert [(k.before, k.after, k.aspects) for k in found] == [("mlp", "mlp", ()), ("more", None, ("interface",))]


def test_the_changed_lines_are_the_places() -> None:
    edited = MLP.replace("0.25", "0.5")
    ((change,),) = [k.changes for k in compare(kernels(MLP), kernels(edited))]
    assert change.what == "0.25 became 0.5"
    assert change.before is not None
    assert change.after is not None
    assert [s.source.line_column(s.start)[0] for s in (change.before, change.after)] == [16, 16]


_SWAPS = {
    1: ("neg", "abs", "sqrt", "exp", "tanh", "relu", "sigmoid"),
    2: ("add", "sub", "mul", "div", "min", "max"),
    3: ("fma", "where"),
}
_COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")


def mutants(value: Value) -> Iterator[Value]:
    """The value with another operator, other operands, or other attributes."""
    spec = OPS[value.op]
    if spec.kind == "elementwise" and value.op not in ("cast", "and", "or", "not", "isnan"):
        group = _COMPARE if value.op in _COMPARE else _SWAPS[len(value.operands)]
        for op in group:
            if op != value.op:
                yield replace(value, op=op)
    if value.op in ("and", "or"):
        yield replace(value, op="or" if value.op == "and" else "and")
    if value.op in ("sub", "div", "lt", "le", "gt", "ge") and value.operands[0] != value.operands[1]:
        yield replace(value, operands=value.operands[::-1])
    for name, attr in value.attrs.items():
        if name in ("name", "k", "axis", "into", "over", "expr", "ragged", "masked", "groups"):
            continue
        other = {"nearest": "stochastic", "sum": "max"}.get(str(attr), "sum") if isinstance(attr, str) else None
        number = 17 if attr != 17 else 18
        yield replace(value, attrs={**value.attrs, name: number if other is None else other})


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_every_mutation_of_an_operator_is_numerics(path: Path) -> None:
    for kernel in analyze(Source(path.name, path.read_text()), path.parent).raise_errors().kernels:
        assert compare_kernels(kernel, kernel) == ()
        for index, value in enumerate(kernel.values):
            for mutant in mutants(value):
                values = (*kernel.values[:index], mutant, *kernel.values[index + 1 :])
                changes = compare_kernels(kernel, replace(kernel, values=values))
                assert {c.aspect for c in changes} == {"numerics"}, (kernel.name, value, mutant)


def test_the_specs_have_many_operators() -> None:
    kernels_ = [k for p in SPECS for k in analyze(Source(p.name, p.read_text()), p.parent).raise_errors().kernels]
    assert sum(1 for k in kernels_ for value in k.values for _ in mutants(value)) > 300


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_names_of_locals_and_functions_are_nothing(path: Path) -> None:
    text = path.read_text()
    locals_ = {n for k in analyze(Source(path.name, text), path.parent).kernels for n in _locals(k)}
    for name in locals_ - {"element"}:  # a keyword elsewhere in that file
        text = re.sub(rf"(?<![.\w]){name}\b(?!\s*:)", f"{name}_renamed", text)
    edited = analyze(Source(path.name, text), path.parent).raise_errors().kernels
    for found in compare(analyze(Source(path.name, path.read_text()), path.parent).kernels, edited):
        assert found.changes == ()


def _locals(kernel: Kernel) -> set[str]:
    args = {a.name for a in kernel.args}
    return {str(v.attrs["name"]) for v in kernel.values if OPS[v.op].kind != "leaf" and "name" in v.attrs} - args
