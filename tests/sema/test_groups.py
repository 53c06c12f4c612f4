"""Axes that number the groups of ragged rows: what is there for each group is there for each of its rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4rt
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.serialize import to_typed
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt.reference import Environment, Tensor, evaluate
from fp4rt.typed import TypedKernel
from fp4rt.wellformed import check_kernel

HEAD = """kernel k(E, M, N, K) {
    in offsets : i32[E + 1]
    in x : bf16[M by offsets, K]; in w : bf16[E, N, K]; in z : f32[M by offsets, N]
    in bias : bf16[E, N]; in alpha : f32[E]; in turned : f32[N, E]; in rng : u64[2]
    out y : f32[M by offsets, N]
"""


def kernel_of(text: str, head: str = HEAD) -> Kernel:
    result = analyze(Source("t.fp4", f"{head}{text}\n}}\n"))
    assert result.diagnostics == ()
    return result.kernels[0]


def computed(kernel: Kernel, offsets: list[int], n: int = 5, k: int = 8) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What is stored in y, and the inputs as f32."""
    rng = np.random.default_rng(1)
    e, m = len(offsets) - 1, offsets[-1]
    shapes = {"x": (m, k), "w": (e, n, k), "z": (m, n), "bias": (e, n), "alpha": (e,), "turned": (n, e)}
    drawn = {name: rng.integers(-4, 5, shape).astype(np.float32) for name, shape in shapes.items()}
    plain = {name: data if kernel.arg(name).dtype == "f32" else (data.view(np.uint32) >> 16).astype(np.uint16)
             for name, data in drawn.items() if name in {a.name for a in kernel.args}}  # fmt: skip
    arrays = {**plain, "offsets": np.array(offsets, np.int32), "rng": np.array([3, 0], np.uint64)}
    typed = to_typed(kernel)
    env = Environment({"E": e, "M": m, "N": n, "K": k}, {}, arrays, {"M": "offsets"})
    value = evaluate(typed, env)[typed.stores[0].value]
    assert isinstance(value, Tensor)
    return np.broadcast_to(value.align(("M", "N")), (m, n)), drawn


OFFSETS = [[0, 0], [0, 3], [0, 0, 4, 4], [0, 1, 2, 7, 7, 20]]


@pytest.mark.parametrize("offsets", OFFSETS, ids=str)
def test_a_row_meets_what_its_group_has(offsets: list[int]) -> None:
    y, a = computed(kernel_of("y = alpha * (x @ w.T) + bias + max(z, turned.T)"), offsets)
    for e in range(len(offsets) - 1):
        rows = slice(offsets[e], offsets[e + 1])
        expected = a["alpha"][e] * (a["x"][rows] @ a["w"][e].T) + a["bias"][e]
        np.testing.assert_array_equal(y[rows], expected + np.maximum(a["z"][rows], a["turned"][:, e]))


@pytest.mark.parametrize("offsets", OFFSETS, ids=str)
def test_what_has_no_rows_of_its_own_is_stored_for_each(offsets: list[int]) -> None:
    y, a = computed(kernel_of("y = bias * alpha"), offsets)
    np.testing.assert_array_equal(y, np.repeat(a["bias"] * a["alpha"][:, None], np.diff(offsets), axis=0))


def test_random_numbers_are_drawn_for_rows() -> None:
    for text in ("y = where(uniform(rng) < alpha, z, 0)", "t = uniform(rng, like = z)\ny = where(t < alpha, z, 0)"):
        kernel = kernel_of(text)
        assert [v.axes for v in kernel.values if v.op == "uniform"] == [("M", "N")]


TERMS = ("z", "bias", "alpha", "turned.T", "x @ w.T", "(alpha + bias)", "1.5")


@given(st.permutations(TERMS), st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_the_order_of_operands_does_not_matter(terms: list[str], counts: list[int]) -> None:
    offsets = [int(n) for n in np.cumsum([0, *counts])]
    kernel = kernel_of(f"y = {' + '.join(terms)}")
    assert all(not {"E", "M"} <= set(v.axes) for v in kernel.values)
    y, a = computed(kernel, offsets)
    group = np.repeat(np.arange(len(counts)), counts)
    total = a["z"] + 2 * a["bias"][group] + 2 * a["alpha"][group][:, None] + a["turned"].T[group] + np.float32(1.5)
    for e in range(len(counts)):
        rows = slice(offsets[e], offsets[e + 1])
        total[rows] += a["x"][rows] @ a["w"][e].T
    np.testing.assert_array_equal(y, total)


@pytest.mark.parametrize(
    ("args", "text", "code"),
    [
        ("in b : f32[E, M by offsets]", "y = z", "FP3080"),
        ("in b : bf16[M by offsets, K]", "y = w @ b.T", "FP3081"),
    ],
)
def test_rows_and_groups_do_not_stand_in_one_value(args: str, text: str, code: str) -> None:
    found = analyze(Source("t.fp4", f"{HEAD}{args}\n{text}\n}}\n")).diagnostics
    assert code in [d.code for d in found]


def test_a_manifest_says_which_groups() -> None:
    typed = to_typed(kernel_of("y = z + alpha"))
    (index,) = (i for i, v in enumerate(typed.values) if v.op == "of_group")
    assert dict(typed.values[index].attrs) == {"ragged": "offsets", "groups": "E", "rows": "M"}
    inputs = fp4rt.random_inputs(typed, {"E": 2, "M": 5, "N": 4, "K": 8}, seed=0)
    assert inputs["offsets"][-1] == 5


GRADIENT = """kernel k(E, M, N, K) {
    in offsets : i32[E + 1]
    in dy : f32[M by offsets, N]; in x : f32[M by offsets, K]; in alpha : f32[E]
    out y : f32[E, N, K]
    y = alpha * (dy.T @ x)
"""


@cache
def gradient(masked: bool) -> TypedKernel:
    text = GRADIENT
    if masked:
        text = text.replace("offsets : i32[E + 1]", "counts : i32[E]").replace("M by offsets", "E, M upto counts")
    typed = to_typed(kernel_of("", text))
    check_kernel(typed)
    return typed


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), max_size=5), st.integers(0, 4), st.booleans())
def test_each_group_is_contracted_by_itself(counts: list[int], poisoned: int, masked: bool) -> None:
    rng, ends = np.random.default_rng(len(counts)), [int(n) for n in np.cumsum([0, *counts])]
    m = 6 if masked else ends[-1]
    lead = (len(counts), m) if masked else (m,)
    dy, x = (rng.integers(-4, 5, (*lead, n)).astype(np.float32) for n in (3, 2))
    alpha = np.arange(1, len(counts) + 1, dtype=np.float32)
    if masked:
        for e, count in enumerate(counts):
            dy[e, count:] = np.nan
        given = {"counts": np.array(counts, np.int32)}
    else:
        if counts:  # a neighbor of NaN
            e = poisoned % len(counts)
            dy[ends[e] : ends[e + 1]] = np.nan
        given = {"offsets": np.array(ends, np.int32)}
    typed = gradient(masked)
    env = Environment({"E": len(counts), "M": m, "N": 3, "K": 2}, {}, {**given, "dy": dy, "x": x, "alpha": alpha})
    value = evaluate(typed, env)[typed.stores[0].value]
    assert isinstance(value, Tensor)
    found = value.align(("E", "N", "K"))
    assert found.shape == (len(counts), 3, 2)
    for e, count in enumerate(counts):
        rows = (e, slice(0, count)) if masked else (slice(ends[e], ends[e + 1]),)
        np.testing.assert_array_equal(found[e], alpha[e] * (dy[rows].T @ x[rows]))


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"groups": 3}, "has the attributes contracted and groups"),
        ({"accumulate": "fast"}, "f32 sums"),
        ({"groups": "N"}, r"is \[N, m, n\]"),
        ({"contracted": "x"}, "'x' does not divide 'M'"),
    ],
)
def test_a_manifest_says_what_is_contracted(attrs: dict[str, object], text: str) -> None:
    typed = to_typed(kernel_of("", GRADIENT))
    (index,) = (i for i, v in enumerate(typed.values) if v.op == "matmul")
    spoiled = replace(typed.values[index], attrs={**typed.values[index].attrs, **attrs})
    with pytest.raises(fp4rt.ArtifactError, match=text):
        check_kernel(replace(typed, values=(*typed.values[:index], spoiled, *typed.values[index + 1 :])))


def test_a_tensor_scale_for_each_batch_has_its_axes() -> None:
    head = "kernel k(E, M, N) {\n in x : bf16[E, M, N]; in ts : f32[E]\n out q : nvfp4_experts[E, M, N]\n"
    typed = to_typed(kernel_of(" q = quantize(x, tensor_scale = ts)", head))
    check_kernel(typed)
    scale = next(i for i, v in enumerate(typed.values) if v.attrs.get("name") == "ts")
    quantized = typed.values[-1]
    spoiled = replace(quantized, operands=(quantized.operands[0], quantized.operands[0]))
    assert quantized.operands[1] == scale
    with pytest.raises(fp4rt.ArtifactError, match="its tensor_scale has the axes"):
        check_kernel(replace(typed, values=(*typed.values[:-1], spoiled)))
