"""Chains: what is proved, what the sizes turn out to be, and that every change of a type is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp4cc.chain import Chain, End, Link, check_chain
from fp4cc.diagnostics import DiagnosticError
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4num import FORMATS, BlockFormat, FormatError, ScaleLayout
from fp4num.layouts import BLOCKED_8X4, LAYOUTS
from fp4rt.sizes import text

GATED = """
kernel quantize(M, K) { in x : bf16[M, K]; in ts : f32[]; out q : nvfp4[M, K]; q = quantize(x, tensor_scale = ts) }
kernel up(M, N, K, F = N / 2) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in ts : f32[]
    out q : nvfp4[M, F]
    g, u = unzip(x @ w.T, N -> F, group = 1)
    q = quantize(swiglu(g, u), tensor_scale = ts)
}
kernel down(T, E, H) { in x : nvfp4[T, H]; in w : nvfp4[E, H]; out y : bf16[T, E]; y = x @ w.T }
kernel fixed(T, E, H = 2048) { in x : nvfp4[T, H]; in w : nvfp4[E, H]; out y : bf16[T, E]; y = x @ w.T }
"""


def chain(spec: str, *written: str) -> Chain:
    """The links `a.q=b.x` between kernels of one spec, checked."""
    kernels = {k.name: k for k in analyze(Source("spec.fp4", spec)).raise_errors().kernels}

    def end(name: str) -> End:
        kernel, arg = name.split(".")
        return End(kernel, kernels[kernel], kernels[kernel].arg(arg))

    return check_chain([Link(*map(end, link.split("="))) for link in written])


def codes(spec: str, *written: str) -> list[str]:
    try:
        chain(spec, *written)
    except DiagnosticError as problem:
        assert all(d.labels for d in problem.diagnostics)
        return [d.code for d in problem.diagnostics]
    return []


def test_dims_are_renamed() -> None:
    proved = chain(GATED, "quantize.q=up.x", "up.q=down.x")
    assert {name: text(expr) for name, expr in proved.sizes.items()} == {
        "up.M": "quantize.M",
        "up.K": "quantize.K",
        "down.T": "quantize.M",
        "down.H": "up.N / 2",
    }
    assert proved.renaming(proved.links[1]) == (("M", "T"), ("F", "H"))


def test_the_order_of_links_does_not_matter() -> None:
    one = chain(GATED, "quantize.q=up.x", "up.q=fixed.x")
    other = chain(GATED, "up.q=fixed.x", "quantize.q=up.x")
    assert one.sizes["up.N"] == other.sizes["up.N"] == 4096


def test_a_number_meets_the_conditions_of_the_other_kernel() -> None:
    spec = GATED + "kernel made(M, N, K) where N % 3 == 0 {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]; in ts : f32[]\n"
    spec += " out q : nvfp4[M, N]\n q = quantize(a @ b.T, tensor_scale = ts)\n}\n"
    assert codes(spec, "made.q=fixed.x") == ["FP2017"]
    assert codes(spec, "made.q=down.x") == []


def test_sizes_that_cannot_be() -> None:
    spec = (
        GATED + "kernel wide(M, N, F = 3 * N) { in x : bf16[M, F]; in b : f32[N]; in ts : f32[]; out q : nvfp4[M, F]\n"
    )
    spec += " out c : f32[N]\n q = quantize(x, tensor_scale = ts)\n c = b\n}\n"
    assert codes(spec, "wide.q=down.x") == []
    assert codes(spec, "wide.q=fixed.x") == ["FP3508"]  # 3 N is never 2048
    assert text(chain(spec, "wide.q=down.x", "wide.q=up.x", "up.q=down.x").sizes["up.N"]) == "6 * wide.N"


def test_exchanged_axes_are_no_renaming() -> None:
    spec = """
    kernel both(M, K) {
        in x : bf16[M, K]; out q : mxfp8[M, K]; out t : mxfp8[K, M]; q = quantize(x); t = quantize(x.T)
    }
    kernel gemm(M, N, K) { in a : mxfp8[M, K]; in b : mxfp8[N, K]; out y : bf16[M, N]; y = a @ b.T }
    kernel same(M, J, K) { in a : mxfp8[M, K]; in b : mxfp8[K, M]; in v : f32[J]; out y : f32[M, K]; y = a + b.T }
    """
    assert codes(spec, "both.q=gemm.a") == []
    assert set(codes(spec, "both.q=gemm.a", "both.t=gemm.b")) == {"FP3508"}
    assert codes(spec, "both.q=same.a", "both.t=same.b") == []
    assert set(codes(spec, "both.t=same.a", "both.t=same.b")) == {"FP3508"}


def test_scalars_and_plain_tensors() -> None:
    spec = """
    kernel a(M, N) { in x : bf16[M, N]; out amax : f32[]; out y : bf16[M, N]; amax = max(abs(x), over = all); y = x }
    kernel b(M, N) {
        in x : bf16[M, N]; in amax : f32[]; in f : f32[M, N]; out q : nvfp4[M, N]
        q = quantize(x + f, amax = amax)
    }
    """
    assert codes(spec, "a.amax=b.amax", "a.y=b.x") == []
    assert codes(spec, "a.y=b.f") == ["FP3501"]
    assert codes(spec, "a.amax=b.f") == ["FP3507"]


def test_ragged_axes() -> None:
    spec = """
    kernel moe(E, M, N, K) {
        in offsets : i32[E + 1]; in x : mxfp8[M by offsets, K]; in w : mxfp8[E, N, K]
        out y : mxfp8[M by offsets, N]
        y = quantize(x @ w.T)
    }
    kernel plain(M, N, K) { in x : mxfp8[M, K]; in w : mxfp8[N, K]; out y : bf16[M, N]; y = x @ w.T }
    """
    assert codes(spec, "moe.y=plain.x") == ["FP3507"]


def test_names_and_quantizers_do_not_matter() -> None:
    spec = """
    format mine extends nvfp4 { quantizer nvfp4_modelopt }
    kernel p(M, K) { in x : bf16[M, K]; in ts : f32[]; out q : mine[M, K]; q = quantize(x, tensor_scale = ts) }
    kernel c(M, N, K) { in x : nvfp4[M, K]; in w : nvfp4[N, K]; out y : bf16[M, N]; y = x @ w.T }
    """
    proved = chain(spec, "p.q=c.x")
    assert any("nvfp4_modelopt" in line for line in proved.remarks(proved.links[0]))


_MUTATIONS = {
    "FP3501": lambda f: replace(f, element="e5m2", pack=None) if f.element != "e5m2" else replace(f, element="e4m3"),
    "FP3502": lambda f: replace(f, scale="e8m0" if f.scale != "e8m0" else "f32"),
    "FP3503": lambda f: replace(f, block=(f.block[0], 64), stored=(f.block[0], 64)),
    "FP3505": lambda f: replace(f, layout=BLOCKED_8X4 if f.layout != BLOCKED_8X4 else LAYOUTS["linear"]),
    "FP3506": lambda f: replace(f, tensor_scale="divides" if f.tensor_scale != "divides" else None),
}


_TITLES = {
    "FP3501": "the elements differ",
    "FP3502": "the scale types differ",
    "FP3503": "the scale blocks differ",
    "FP3505": "the scale layouts differ",
    "FP3506": "the tensor scales differ",
}


@given(st.sampled_from(sorted(FORMATS)), st.sets(st.sampled_from(sorted(_MUTATIONS)), max_size=5))
def test_all_differences_of_formats_are_one_diagnostic(name: str, mutations: set[str]) -> None:
    spec = """
    kernel p(M, K) { in x : mxfp8[M, K]; out y : f32[M, K]; y = x }
    kernel c(M, K) { in x : mxfp8[M, K]; out y : f32[M, K]; y = x }
    """
    kernels = {k.name: k for k in analyze(Source("spec.fp4", spec)).raise_errors().kernels}
    fmt = FORMATS[name]
    other: BlockFormat = fmt
    for code in sorted(mutations):
        try:
            other = _MUTATIONS[code](other)
        except FormatError:
            return
    ends = [End(n, kernels[n], replace(kernels[n].args[0], dtype=f)) for n, f in (("p", fmt), ("c", other))]
    if not mutations:
        check_chain([Link(*ends)])
        return
    with pytest.raises(DiagnosticError) as caught:
        check_chain([Link(*ends)])
    (found,) = caught.value.diagnostics
    assert found.code == min(mutations)
    said = "".join((found.title, *found.notes))
    assert {code for code, title in _TITLES.items() if title in said} == mutations


def test_a_layout_written_in_another_way_is_the_same() -> None:
    spelled = ScaleLayout("mine", (("k", 4), ("row", 128)), (4, (32, 2, 2)), (1, (16, 4, 8)))
    spec = "kernel p(M, K) { in x : nvfp4[M, K]; out y : f32[M, K]; y = x }\n"
    (kernel,) = analyze(Source("spec.fp4", spec)).raise_errors().kernels
    arg = kernel.args[0]
    assert arg.format is not None
    other = replace(arg, dtype=replace(arg.format, layout=spelled))
    check_chain([Link(End("p", kernel, arg), End("c", kernel, other))])


@pytest.mark.parametrize("kernel", ["down", "fixed"])
def test_a_link_of_one_kernel_with_itself(kernel: str) -> None:
    assert "FP3501" in codes(GATED, f"{kernel}.y={kernel}.x")
