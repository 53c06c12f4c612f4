"""Several accumulators in a kernel for Hopper: products that share an operand, sums, and one product's two halves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

FORMATS = "format lines extends nvfp4 { layout linear }\n"
CLUSTERS = ["1 x 1", "2 x 1"]


def gated(a: str, g: str, u: str, value: str = "relu(x @ wg.T) * (x @ wu.T)", schedule: str = "stages auto") -> str:
    """Two products that share their left operand."""
    args = f"in x : {a}[M, K]; in wg : {g}[N, K]; in wu : {u}[N, K]; out y : f32[M, N]"
    return f"{FORMATS}kernel gated(M, N, K) {{ {args}; y = {value} }}\nschedule gated on sm_90a {{ {schedule} }}\n"


def svd(fmt: str, plain: str, schedule: str = "stages auto") -> str:
    """A product and a low-rank one beside it."""
    args = f"in x : {fmt}[M, K]; in w : {fmt}[N, K]; in xr : {plain}[M, R]; in up : {plain}[N, R]; in bias : bf16[N]"
    return (
        f"{FORMATS}kernel svd(M, N, K, R) {{ {args}; out y : bf16[M, N]; y = x @ w.T + xr @ up.T + bias }}\n"
        f"schedule svd on sm_90a {{ {schedule} }}\n"
    )


@pytest.mark.parametrize(("a", "g", "u"), [("bf16", "bf16", "nvfp4"), ("mxfp8", "lines", "mxfp4")])
def test_gated(check: Check, a: str, g: str, u: str) -> None:
    check(gated(a, g, u), "sm_90a", M=140, N=200, K=160)


def test_low_rank_in_one_accumulator(check: Check) -> None:
    """MXFP4 has no tensor scale."""
    check(svd("mxfp4", "bf16"), "sm_90a", M=140, N=136, K=160, R=72)


def test_low_rank_with_delays(check: Check) -> None:
    """Two accumulators, and both kinds of stages in one ring: converted ones, free at once, and such as wgmma reads."""
    text = svd("nvfp4", "bf16", "stages 2; cluster 2 x 1; tile 128 x 64 x 64")
    check(text, "sm_90a", mode="delayed", sms=2, M=200, N=72, K=160, R=136)


SUMS = {
    "three in one": "x @ w.T + u @ v.T + xr @ up.T",
    "two and one": "relu(x @ w.T + u @ v.T) * (xr @ up.T)",
    "used twice": "(x @ w.T + u @ v.T) * (xr @ up.T) + (xr @ up.T)",
    "three": "(x @ w.T) * (u @ v.T) * (xr @ up.T)",
    "four": "(x @ w.T) * (u @ v.T) * (xr @ up.T) * (x @ z.T)",
}


def sums(value: str) -> str:
    args = (
        "in x : mxfp8[M, K]; in w : mxfp4[N, K]; in z : lines[N, K]; in u : mxfp4[M, J]; in v : mxfp6[N, J]\n"
        "in xr : bf16[M, R]; in up : bf16[N, R]; out y : f32[M, N]"
    )
    return f"{FORMATS}kernel sums(M, N, K, J, R) {{ {args}; y = {value} }}\n"


def test_four_accumulators(check: Check) -> None:
    check(sums(SUMS["four"]), "sm_90a", M=70, N=72, K=96, J=64, R=40)


def unzipped(a: str, b: str, group: int | str, schedule: str = "stages auto") -> str:
    """One product whose columns are two halves."""
    return f"""{FORMATS}kernel up(M, N, K, F = N / 2) {{
        in x : {a}[M, K]; in w : {b}[N, K]; in bias : bf16[F]; in s : f32[]; out y : bf16[M, F]; out q : nvfp4[M, F]
        g, u = unzip(x @ w.T, N -> F, group = {group})
        h = bf16(swiglu(g, u) + bias)
        y = h
        q = quantize(h, tensor_scale = s)
    }}
    schedule up on sm_90a {{ {schedule} }}
    """


@pytest.mark.parametrize(("a", "b", "group"), [("bf16", "nvfp4", 64), ("mxfp8", "lines", 128)])
def test_unzip(check: Check, a: str, b: str, group: int) -> None:
    """Up to 64 columns a group the halves are read apart; of 128 they are loaded apart."""
    check(unzipped(a, b, group), "sm_90a", M=140, N=256, K=96)


@pytest.mark.parametrize(
    ("a", "b", "group", "n"), [("nvfp4", "nvfp4", "F", 256), ("bf16", "lines", "F", 160), ("bf16", "bf16", "192", 768)]
)
def test_halves_apart(check: Check, a: str, b: str, group: str, n: int) -> None:
    """The second half begins on an atom of scales, within what threads read, or takes turns in wide groups."""
    check(unzipped(a, b, group), "sm_90a", M=70, N=n, K=96)


def low_rank_halves(fmt: str, plain: str, group: str, schedule: str = "stages auto") -> str:
    """A sum of products and the halves of its columns: NVFP4, with a tensor scale, has four accumulators in all."""
    args = f"in x : {fmt}[M, K]; in w : {fmt}[N, K]; in xr : {plain}[M, R]; in up : {plain}[N, R]; in bias : bf16[N]"
    return (
        f"{FORMATS}kernel up(M, N, K, R, F = N / 2) {{ {args}; out y : bf16[M, F]\n"
        f"g, u = unzip(x @ w.T + xr @ up.T + bias, N -> F, group = {group}); y = swiglu(g, u) }}\n"
        f"schedule up on sm_90a {{ {schedule} }}\n"
    )


@pytest.mark.parametrize(
    ("fmt", "group"), [pytest.param("nvfp4", "32", marks=pytest.mark.slow), ("nvfp4", "F"), ("mxfp4", "16")]
)
def test_halves_of_sums(check: Check, fmt: str, group: str) -> None:
    check(low_rank_halves(fmt, "bf16", group), "sm_90a", M=70, N=256, K=96, R=40)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("group", ["1", "2", "4", "8", "16", "32", "64", "192", "F"])
@pytest.mark.parametrize(("fmt", "plain"), [("nvfp4", "bf16"), ("mxfp4", "bf16"), ("lines", "f16"), ("mxfp6", "e4m3")])
def test_halves_of_all_sums(check: Check, fmt: str, plain: str, group: str, cluster: str) -> None:
    text = low_rank_halves(fmt, plain, group, f"cluster {cluster}; stages 2")
    check(text, "sm_90a", M=300, N=768, K=192, R=80, sms=2)
    check(text, "sm_90a", M=140, N=768, K=320, R=0, sms=2, mode="delayed", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize(
    "formats", ["nvfp4 nvfp4", "bf16 nvfp4", "bf16 bf16", "f16 lines", "mxfp8 mxfp6", "e4m3 lines"]
)
@pytest.mark.parametrize(("group", "half"), [("192", 384), ("320", 640), ("F", 256), ("F", 64), ("F", 320)])
def test_halves_apart_in_all_formats(check: Check, group: str, half: int, formats: str, cluster: str) -> None:
    text = unzipped(*formats.split(), group, f"cluster {cluster}; stages 2")
    check(text, "sm_90a", M=300, N=2 * half, K=192, sms=2)
    check(text, "sm_90a", M=140, N=2 * half, K=320, sms=2, mode="delayed", seed=half)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("formats", ["nvfp4 nvfp4", "bf16 nvfp4", "bf16 bf16", "f16 lines", "mxfp8 mxfp6"])
@pytest.mark.parametrize("group", [1, 2, 4, 8, 16, 32, 64, 128])
def test_unzip_of_all_groups(check: Check, group: int, formats: str, cluster: str) -> None:
    text = unzipped(*formats.split(), group, f"cluster {cluster}; stages 2")
    check(text, "sm_90a", M=300, N=768, K=192, sms=2)
    check(text, "sm_90a", M=140, N=512, K=320, sms=2, mode="delayed", seed=group)


@pytest.mark.slow
@pytest.mark.parametrize("value", SUMS.values(), ids=SUMS.keys())
def test_sums(check: Check, value: str) -> None:
    check(sums(value), "sm_90a", M=140, N=200, K=256, J=320, R=72, sms=2)
    check(sums(value), "sm_90a", M=300, N=200, K=384, J=64, R=8, sms=4, mode="delayed", seed=1)
    check(sums(value), "sm_90a", M=1, N=1, K=32, J=0, R=8)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("formats", ["nvfp4 nvfp4 nvfp4", "bf16 nvfp4 lines", "f16 f16 lines", "mxfp8 mxfp6 e4m3",
                                     "lines nvfp4 nvfp4", "e4m3 bf16 mxfp4", "bf16 bf16 bf16"])  # fmt: skip
def test_gated_with_other_formats(check: Check, formats: str, cluster: str) -> None:
    text = gated(*formats.split(), schedule=f"cluster {cluster}")
    check(text, "sm_90a", M=300, N=200, K=576, sms=2)
    check(text, "sm_90a", M=140, N=136, K=192, sms=2, mode="delayed", seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("plain", ["bf16", "f16", "e4m3"])
@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4", "mxfp6_e2m3", "lines"])
def test_low_rank_of_other_types(check: Check, fmt: str, plain: str, cluster: str) -> None:
    text = svd(fmt, plain, f"cluster {cluster}")
    check(text, "sm_90a", M=140, N=200, K=320, R=144, sms=2)
    check(text, "sm_90a", M=140, N=200, K=320, R=0, sms=2, mode="delayed", seed=1)


@pytest.mark.slow
def test_sums_that_share_an_operand(check: Check) -> None:
    """One accumulator has room for one B of 128 rows: A is loaded for each."""
    args = "in x : mxfp4[M, K]; in w : mxfp4[N, K]; in v : mxfp4[N, K]; out y : f32[M, N]"
    check(f"kernel sums(M, N, K) {{ {args}; y = x @ w.T + x @ v.T }}", "sm_90a", M=140, N=200, K=320)


@pytest.mark.slow
def test_a_product_with_itself(check: Check) -> None:
    """The same argument on both sides has a tensor map for each where they read it differently."""
    text = "kernel gram(M, K, J = M) { in x : bf16[M, K]; in z : bf16[J, K]; out y : f32[M, J]; y = x @ z.T }\n"
    check(text, "sm_90a", M=130, K=72)


@pytest.mark.slow
def test_batches_and_a_quantized_output(check: Check) -> None:
    text = """kernel gated(L, M, N, K) {
        in x : nvfp4[L, M, K]; in wg : nvfp4[L, N, K]; in wu : nvfp4[N, K]; in s : f32[]
        out y : nvfp4[L, M, N]
        y = quantize(bf16(swiglu(x @ wg.T, x @ wu.T)), tensor_scale = s)
    }"""
    check(text, "sm_90a", L=3, M=140, N=192, K=320)


@pytest.mark.slow
@pytest.mark.parametrize("product", ["x @ w.T + xr @ up.T", "x @ w.T", "xr @ up.T", "y @ v.T"])
def test_outputs_that_leave_little_room(check: Check, product: str) -> None:
    """Operands come first: results are staged less, or not at all, so that the ring has its stages."""
    names = {"x": "nvfp4[M, K]", "w": "nvfp4[N, K]", "xr": "bf16[M, R]", "up": "bf16[N, R]", "y": "ds_act[M, K]",
             "v": "ds_weight[N, K]"}  # fmt: skip
    args = "; ".join(f"in {name} : {names[name]}" for name in names if name in product.replace(".T", "").split())
    dims = [name for name in ("K", "R") if f", {name}]" in args]
    text = f"""kernel many(M, N, {", ".join(dims)}) {{
        {args}; in r : f32[M, N]; in s : f32[]
        out a : f32[M, N]; out b : f32[M, N]; out c : f32[M, N]; out q : nvfp4[M, N]
        h = {product}
        a = h + r; b = 2 * h; c = h - r; q = quantize(h, tensor_scale = s)
    }}"""
    check(text, "sm_90a", M=140, N=96, **dict.fromkeys(dims, 128))
