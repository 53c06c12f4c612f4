"""Lowering of kernels without a product: what the rows and columns are, and what is walked twice."""

from __future__ import annotations

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import LoweredKernel, OneEach, Persistent
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source


def lowered(text: str, target: str = "sm_100a") -> LoweredKernel:
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], target)


def test_an_inputs_order_says_what_rows_are() -> None:
    space = lowered("kernel k(L, M, N) { in x : f32[L, M, N]; out y : f32[L, N, M]; y = x.T }").epilogue.problem
    assert (space.batch_axes, space.m_axis, space.n_axis) == (("L",), "M", "N")


def test_a_vector_is_one_row() -> None:
    kernel = lowered("kernel k(N) { in x : f32[N]; out y : f32[N]; y = 2 * x }")
    assert (kernel.epilogue.problem.m, kernel.epilogue.problem.n) == (1, "N")
    assert kernel.walk.tiles == ("ceildiv", "N", 128)


@pytest.mark.parametrize(
    ("block", "panel", "tile"),
    [("1 x 32", 0, 128), ("1 x 64", 64, 128), ("64 x 32", 32, 128), ("128 x 128", 128, 128), ("1 x 256", 256, 256)],
)
def test_blocks_over_a_line_are_measured_by_the_panel(block: str, panel: int, tile: int) -> None:
    fmt = f"format wide {{ element e4m3; scale f32 per {block}; layout linear; quantizer absmax }}\n"
    kernel = lowered(f"{fmt}kernel k(M, N) {{ in x : f32[M, N]; out q : wide[M, N]; q = quantize(x) }}")
    assert (kernel.epilogue.panel, kernel.epilogue.tile_n) == (panel, tile)
    ahead = [leaf.load is not None for leaf in kernel.epilogue.inputs]
    assert ahead == [panel == 0]  # what is loaded ahead is there for one walk


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_fits_in_shared_memory(target: str) -> None:
    outputs = "; ".join(f"out q{i} : nvfp4[N, M]" for i in range(4))
    stores = "; ".join(f"q{i} = quantize(x.T, amax = a)" for i in range(4))
    kernel = lowered(f"kernel k(M, N) {{ in x : bf16[M, N]; in a : f32[]; {outputs}; {stores} }}", target)
    assert kernel.smem.total <= kernel.smem.limit


@pytest.mark.parametrize(
    ("out", "texts"),
    [
        ("out y : f32[M, N]; y = x", []),
        ("out y : f32[]; y = max(x, over = all)", ["M > 0", "N > 0"]),
        ("out y : nvfp4[M, N]; y = quantize(x, amax = a)", ["M > 0", "N > 0"]),
        ("out y : mxfp4[M, N]; y = quantize(x)", []),
        ("out y : f32[M]; y = max(x, over = N)", ["N > 0"]),
        ("out y : fp8_token[M, N]; y = quantize(x)", ["N > 0"]),
        ("out y : fp8_token[N, M]; y = quantize(x.T, scale = 2)", ["M > 0"]),
    ],
)
def test_what_is_written_for_an_empty_tensor_forbids_it(out: str, texts: list[str]) -> None:
    kernel = lowered(f"kernel k(M, N) {{ in x : f32[M, N]; in a : f32[]; {out} }}")
    assert [c.text for c in kernel.constraints] == texts


def test_products_whose_outputs_need_a_launch_are_not_empty() -> None:
    """An empty product launches nothing, so a reduction of it would stay unwritten: that is refused at the call."""
    args = "in a : nvfp4[M, K]; in b : nvfp4[N, K]; out top : f32[]"
    text = f"kernel k(M, N, K) {{ {args}; top = max(abs(a @ b.T), over = (M, N)) }}"
    kernel = analyze(Source("spec.fp4", text), None).raise_errors().kernels[0]
    for target in ("sm_100a", "sm_90a"):
        assert {"M > 0", "N > 0"} <= {c.text for c in lower(kernel, target).constraints}


def test_axes_without_names_are_to_be_named() -> None:
    """`f32[4]` is no scalar: what is said must not call it one."""
    text = "kernel k() {{ in a : f32[{0}]; out c : f32[{0}]\nc = a }}"
    (kernel,) = analyze(Source("s", text.format("4"))).raise_errors().kernels
    with pytest.raises(DiagnosticError) as refused:
        lower(kernel, "sm_100a")
    (found,) = refused.value.diagnostics
    assert found.code == "FP4001" and found.span is not None and found.span.text == "in a : f32[4]"
    assert "`kernel k(N = ...)`" in found.help[0]
    (kernel,) = analyze(Source("s", text.format("N").replace("k()", "k(N = 4)"))).raise_errors().kernels
    assert lower(kernel, "sm_100a")


@pytest.mark.parametrize(
    ("inputs", "value", "stages"),
    [("in x : bf16[M, N]", "x", [4]), ("in x : f32[M, N]", "x", [2]), ("in x, z : bf16[M, N]", "x + z", [2, 2])],
)
def test_a_whole_tile_is_loaded_at_once_where_it_is_small(inputs: str, value: str, stages: list[int]) -> None:
    inputs = inputs.replace("x, z : bf16[M, N]", "x : bf16[M, N]; in z : bf16[M, N]")
    kernel = lowered(f"kernel k(M, N) {{ {inputs}; out y : bf16[M, N]; y = bf16({value}) }}")
    assert [leaf.load.stages for leaf in kernel.epilogue.inputs if leaf.load is not None] == stages


@pytest.mark.parametrize(
    ("out", "walk"),
    [
        ("out y : bf16[M, N]; y = x", OneEach),
        ("out y : f32[]; y = max(abs(x), over = all)", OneEach),
        ("out y : f32[]; y = sum(f32(x), over = all)", Persistent),
    ],
)
def test_a_cta_for_each_tile_unless_they_meet_in_the_workspace(out: str, walk: type) -> None:
    kernel = lowered(f"kernel k(M, N) {{ in x : bf16[M, N]; {out} }}")
    assert type(kernel.walk) is walk
    assert (kernel.epilogue.workspace == 0) == (walk is OneEach)
