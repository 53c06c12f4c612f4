"""Random specs for hypothesis: every operation, every kind of operand, several outputs of every kind."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

#: Operands: name -> declaration after its name.
OPERANDS = {
    "row": "f32[M]", "row_half": "f16[M]", "column": "bf16[N]", "column_f32": "f32[N]", "tile": "bf16[M, N]",
    "tile_f32": "f32[M, N]", "tile_fp8": "e4m3[M, N]", "scalar": "f32[]",
}  # fmt: skip
_UNARY = (
    "-{}", "abs({})", "sqrt(abs({}))", "rsqrt(abs({}) + 1)", "exp(min({}, 20))", "log(abs({}) + 0.5)", "tanh({})",
    "sigmoid({})", "erf({})", "relu({})", "gelu({})", "gelu_tanh({})", "silu({})", "sign({})", "bf16({})", "f16({})",
    "e4m3({})", "e5m2({})",
)  # fmt: skip
_BINARY = ("{} + {}", "{} - {}", "{} * {}", "{} / {}", "min({}, {})", "max({}, {})")
_CONDITIONS = ("{} < {}", "{} <= {}", "{} > {} or isnan({})", "{} >= {} and not ({} == {})", "{} != {}")
STORED = ("f32", "bf16", "f16", "e4m3", "e5m2")


@dataclass(frozen=True)
class RandomSpec:
    """A spec's text and the sizes to run it with."""

    text: str
    dims: dict[str, int]


def _expressions() -> st.SearchStrategy[str]:
    leaves = st.one_of(
        st.sampled_from([*OPERANDS, "gain", "h", "h"]),
        st.floats(-8, 8, width=16).map(lambda v: f"({v})" if v < 0 else str(v)),
    )

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        def fill(pattern: str) -> st.SearchStrategy[str]:
            holes = pattern.count("{}")
            return st.lists(inner, min_size=holes, max_size=holes).map(lambda parts: f"({pattern.format(*parts)})")

        condition = st.sampled_from(_CONDITIONS).flatmap(fill)
        return st.one_of(
            st.sampled_from(_UNARY).flatmap(fill),
            st.sampled_from(_BINARY).flatmap(fill),
            st.tuples(inner, inner, inner).map(lambda p: f"fma({p[0]}, {p[1]}, {p[2]})"),
            st.tuples(condition, inner, inner).map(lambda p: f"where({p[0]}, {p[1]}, {p[2]})"),
        )

    return st.recursive(leaves, grow, max_leaves=8)


@st.composite
def specs(draw: st.DrawFn) -> RandomSpec:
    """A spec with one to four outputs of one product."""
    count = draw(st.integers(1, 4))
    bodies = [draw(_expressions()) for _ in range(count)]
    used = [name for name in OPERANDS if any(name in body for body in bodies)]
    lines = ["kernel k(M, N, K) {", "    in x : nvfp4[M, K]; in w : nvfp4[N, K]"]
    lines += [f"    in {name} : {OPERANDS[name]}" for name in used]
    if any("gain" in body for body in bodies):
        lines.append("    param gain : f32 = 1.5")
    types = [draw(st.sampled_from(STORED)) for _ in bodies]
    lines += [f"    out y{i} : {t}[M, N]" for i, t in enumerate(types)]
    lines.append("    h = x @ w.T")
    # The product is in every output, so that every output has its axes.
    lines += [f"    y{i} = {body} + h" for i, body in enumerate(bodies)]
    lines.append("}")
    dims = {"M": draw(st.integers(1, 300)), "N": draw(st.integers(1, 300)), "K": draw(st.sampled_from([32, 64, 160]))}
    return RandomSpec("\n".join(lines), dims)


#: Outputs beyond plain ones: declaration, and assignment with {} for the value.
_OUTPUTS = (
    ("nvfp4[M, N]", "quantize({}, tensor_scale = scalar)"),
    ("nvfp4[N, M]", "quantize(({}).T, amax = scalar)"),
    ("nvfp4_2d[M, N]", "quantize({}, tensor_scale = scalar)"),
    ("nvfp4[M, N]", "quantize({}, amax = scalar, rounding = stochastic(rng, stream = 1))"),
    ("mxfp4[M, N]", "quantize({})"),
    ("mxfp4[N, M]", "quantize(({}).T, rounding = stochastic(rng, stream = 2))"),
    ("mxfp6[M, N]", "quantize({})"),
    ("mxfp6_e2m3[N, M]", "quantize(({}).T)"),
    ("mxfp8[M, N]", "quantize({})"),
    ("mxfp8_e5m2[N, M]", "quantize(({}).T)"),
    ("f32[M]", "max({}, over = N)"),
    ("f32[N]", "min({}, over = M)"),
    ("f32[]", "max(abs({}), over = all)"),
    ("f32[M]", "sum({}, over = N)"),
    ("f32[N]", "mean_square({}, over = M)"),
    ("f32[]", "mean({}, over = all)"),
    ("bf16[M, N]", "where(uniform(rng, stream = 3) < 0.5, {}, 0)"),
    ("f16[N, M]", "({}).T"),
)


@st.composite
def wide_specs(draw: st.DrawFn) -> RandomSpec:
    """A spec with two to four outputs of every kind: plain, quantized in both directions, reduced, random."""
    group = draw(st.sampled_from([None, None, 1, 16, 64, "F"]))
    bodies = [draw(_expressions()) for _ in range(draw(st.integers(2, 4)))]
    kinds = [draw(st.sampled_from(_OUTPUTS)) for _ in bodies]
    # An unzipped product has half its columns; operands and outputs lie along F then.
    columns = "N" if group is None else "F"
    used = [name for name in OPERANDS if name == "scalar" or any(name in body for body in bodies)]
    lines = [
        f"kernel k(M, N, K{'' if group is None else ', F = N / 2'}) {{",
        "    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in rng : u64[2]; param gain : f32 = 1.5",
    ]
    lines += [f"    in {name} : {OPERANDS[name].replace('N', columns)}" for name in used]
    whole = draw(st.sampled_from(["x @ w.T", "x @ w.T + column_of_n", "(x @ w.T) * tile_of_n + column_of_n"]))
    if group is not None:
        halved = {"column_of_n": "bf16[N]", "tile_of_n": "f32[M, N]"}
        lines += [f"    in {name} : {declared}" for name, declared in halved.items() if name in whole]
    lines += [f"    out y{i} : {kind.replace('N', columns)}" for i, (kind, _) in enumerate(kinds)]
    if group is None:
        lines.append("    h = x @ w.T")
    else:
        lines += [f"    g, u = unzip({whole}, N -> F, group = {group})", "    h = silu(g) * u"]
    for i, (body, (_, pattern)) in enumerate(zip(bodies, kinds, strict=True)):
        text = pattern.replace("over = N", f"over = {columns}").format(f"({body} + h)")
        lines.append(f"    y{i} = {text}")
    lines.append("}")
    unit = 32 if group is None else 256 if isinstance(group, str) else 2 * max(32, group)
    rows, halves = 32 * draw(st.integers(1, 9)), unit * draw(st.integers(1, 5))
    return RandomSpec("\n".join(lines), {"M": rows, "N": halves, "K": draw(st.sampled_from([32, 96]))})
