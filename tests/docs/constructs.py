"""Every construct of docs/language.md as a small spec, by sections of docs/support.md."""

from __future__ import annotations

from collections.abc import Iterator

from .construct import GEMM, PLAIN, Construct, plain, product


def arguments() -> Iterator[Construct]:
    """Arguments: directions, types, axes."""
    for dtype in ("f32", "bf16", "f16", "e4m3", "e5m2", "i32", "u32"):
        yield product(f"`{dtype}` input in an epilogue", "c = a @ b.T + r", more=f"in r : {dtype}[M, N]")
        yield plain(f"`{dtype}` input elementwise", "y = x", args=f"in x : {dtype}[M, N]")
    for dtype in ("f32", "bf16", "f16", "e4m3", "e5m2"):
        yield product(f"`{dtype}` output of a product", out=f"out c : {dtype}[M, N]")
        yield plain(f"`{dtype}` output elementwise", "y = x", out=f"out y : {dtype}[M, N]")
    yield product("`inout` beside a product", "c = a @ b.T + 0.5 * c", out="inout c : bf16[M, N]")
    yield plain("`inout` elementwise", "y = x + y", out="inout y : bf16[M, N]")
    yield product("device scalar `in s : f32[]`", "c = s * (a @ b.T)", more="in s : f32[]")
    yield product("`param gain : f32`", "c = gain * (a @ b.T)", more="param gain : f32 = 1.0")
    yield product("`param n : i32`", "c = n * (a @ b.T)", more="param n : i32")
    yield product("input along M or N", "c = (a @ b.T) * row + column", more="in row : f32[M]; in column : bf16[N]")
    yield product(
        "batch axes",
        args="in a : nvfp4[L, M, K]; in b : nvfp4[L, N, K]",
        out="out c : bf16[L, M, N]",
        dims="L, M, N, K",
    )
    yield product(
        "two batch axes",
        args="in a : nvfp4[B, H, M, K]; in b : nvfp4[B, H, N, K]",
        out="out c : bf16[B, H, M, N]",
        dims="B, H, M, N, K",
    )
    yield product(
        "batched activations, one weight",
        args="in a : nvfp4[L, M, K]; in b : nvfp4[N, K]",
        out="out c : bf16[L, M, N]",
        dims="L, M, N, K",
    )
    yield product(
        "ragged axis `M by offsets`",
        "y = x @ w.T",
        args="in offsets : i32[E + 1]; in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]",
        out="out y : bf16[M by offsets, N]",
        dims="E, M, N, K",
    )
    yield product(
        "fast sums of FP8 `matmul(x, w.T, accumulate = fast)`",
        "y = matmul(x, w.T, accumulate = fast)",
        args="in x : e4m3[M, K]; in w : e4m3[N, K]",
        out="out y : bf16[M, N]",
    )
    yield product(
        "masked axis `M upto counts`",
        "y = x @ w.T",
        args="in counts : i32[E]; in x : nvfp4[E, M upto counts, K]; in w : nvfp4[E, N, K]",
        out="out y : bf16[E, M upto counts, N]",
        dims="E, M, N, K",
    )
    numbered = "in rows : i32[M]; in x : TYPE[S, K]; in w : TYPE[N, K]; in r : bf16[S, N]"
    for dtype in ("bf16", "nvfp4", "e4m3", "fp8_token", "ds_act"):
        args = numbered.replace("TYPE[N", "ds_weight[N" if dtype == "ds_act" else "TYPE[N").replace("TYPE", dtype)
        title = f"rows by number in a product, `x[rows] @ w.T` of {dtype}"
        yield product(title, "c = x[rows] @ w.T", args=args, dims="M, N, K, S")
    yield product("rows by number in an epilogue", "c = a @ b.T + r[rows]", args=f"{GEMM}; in rows : i32[M]; "
                  "in r : bf16[S, N]", dims="M, N, K, S")  # fmt: skip
    yield plain("rows by number elementwise", "y = 2 * x[rows]", args="in rows : i32[M]; in x : bf16[S, N]",
                dims="M, N, S")  # fmt: skip
    yield product("rows stored by number, `y[rows] = x @ w.T`", "y[rows] = a @ b.T", more="in rows : i32[M]",
                  out="inout y : bf16[S, N]", dims="M, N, K, S")  # fmt: skip
    combined = "in p : i32[T, J]; in z : bf16[M, N]; in w : f32[T, J]"
    yield plain("`sum(w * z[p], over = J)` of `p : i32[T, J]`, with `J = 8`", "y = sum(w * z[p], over = J)",
                args=combined, dims="T, J = 8, M, N", out="out y : bf16[T, N]")  # fmt: skip
    ragged = "in offsets : i32[E + 1]; in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]"
    yield product(
        "`bias[E, N]` and `alpha[E]` for the rows of each group",
        "y = alpha * (x @ w.T) + bias",
        args=f"{ragged}; in bias : bf16[E, N]; in alpha : f32[E]",
        out="out y : bf16[M by offsets, N]",
        dims="E, M, N, K",
    )
    yield product(
        "quantized output with ragged rows",
        "q = quantize(x @ w.T, tensor_scale = ts)",
        args=f"{ragged}; in ts : f32[]",
        out="out q : nvfp4[M by offsets, N]",
        dims="E, M, N, K",
    )
    yield product(
        "quantized output with ragged columns",
        "q = quantize((x @ w.T).T, tensor_scale = ts)",
        args=f"{ragged}; in ts : f32[]",
        out="out q : nvfp4[N, M by offsets]",
        dims="E, M, N, K",
    )
    yield product(
        "`max` over ragged rows, or along them",
        "top = max(x @ w.T, over = M); row = max(x @ w.T, over = N)",
        args=ragged,
        out="out top : f32[N]; out row : f32[M by offsets]",
        dims="E, M, N, K",
    )
    yield product(
        "`sum` along ragged rows",
        "row = sum(x @ w.T, over = N)",
        args=ragged,
        out="out row : f32[M by offsets]",
        dims="E, M, N, K",
    )
    yield product(
        "`sum` over ragged rows",
        "column = sum(x @ w.T, over = M)",
        args=ragged,
        out="out column : f32[N]",
        dims="E, M, N, K",
    )
    yield product(
        "`max` along masked rows",
        "row = max(x @ w.T, over = N)",
        args="in counts : i32[E]; in x : nvfp4[E, M upto counts, K]; in w : nvfp4[E, N, K]",
        out="out row : f32[E, M upto counts]",
        dims="E, M, N, K",
    )
    yield product(
        "ragged rows contracted, `dw[E, N, K] = dy.T @ x`",
        "dw = dy.T @ x",
        args="in offsets : i32[E + 1]; in dy : bf16[M by offsets, N]; in x : bf16[M by offsets, K]",
        out="out dw : f32[E, N, K]",
        dims="E, M, N, K",
    )
    yield product(
        "masked rows contracted",
        "dw = dy.T @ x",
        args="in counts : i32[E]; in dy : bf16[E, M upto counts, N]; in x : bf16[E, M upto counts, K]",
        out="out dw : f32[E, N, K]",
        dims="E, M, N, K",
    )
    yield product(
        "ragged columns contracted (`bf16[N, M by offsets]`)",
        "c = a @ b.T",
        args="in offsets : i32[E + 1]; in a : bf16[N, M by offsets]; in b : bf16[K, M by offsets]",
        out="out c : f32[E, N, K]",
        dims="E, M, N, K",
    )
    yield product(
        "ragged columns of blocks contracted (`nvfp4[N, M by offsets]`)",
        "c = a @ b.T",
        args="in offsets : i32[E + 1]; in a : nvfp4[N, M by offsets]; in b : nvfp4[K, M by offsets]",
        out="out c : f32[E, N, K]",
        dims="E, M, N, K",
    )
    yield plain(
        "elementwise over ragged rows",
        "y = silu(x)",
        args="in offsets : i32[E + 1]; in x : bf16[M by offsets, N]",
        out="out y : bf16[M by offsets, N]",
        dims="E, M, N",
    )
    yield plain(
        "quantizer of masked rows",
        "q = quantize(x)",
        args="in counts : i32[E]; in x : bf16[E, M upto counts, N]",
        out="out q : mxfp8[E, M upto counts, N]",
        dims="E, M, N",
    )
    yield product("static dims", dims="M, N = 512, K = 1024")
    yield product("transposed output", "c = (a @ b.T).T", out="out c : bf16[N, M]")
    yield plain("transposed output elementwise", "y = x.T", out="out y : bf16[N, M]")
    yield plain("kernel of scalars only", "y = x + 1", args="in x : f32[]", out="out y : f32[]", dims="")


def products() -> Iterator[Construct]:
    """Products: several, sums, chains, operands that are computed."""
    two = "in a : nvfp4[M, K]; in b : nvfp4[N, K]; in d : nvfp4[N, K]"
    yield product("two products of one activation", "c = silu(a @ b.T) * (a @ d.T)", args=two)
    yield product(
        "sum of two products", "c = a @ b.T + e @ f.T", more="in e : nvfp4[M, J]; in f : nvfp4[N, J]", dims="M, N, K, J"
    )
    yield product(
        "sum of two bf16 products, one accumulator",
        "c = a @ b.T + e @ f.T",
        args="in a : bf16[M, K]; in b : bf16[N, K]",
        more="in e : bf16[M, J]; in f : bf16[N, J]",
        dims="M, N, K, J",
    )
    yield product(
        "products with different axes",
        "c = a @ b.T; d = a @ e.T",
        more="in e : nvfp4[J, K]; out d : bf16[M, J]",
        dims="M, N, K, J",
    )
    yield product("product of a computed operand", "c = relu(a) @ b.T", args="in a : bf16[M, K]; in b : bf16[N, K]")
    yield product("product without `.T` (`bf16[K, N]`)", "c = a @ b", args="in a : bf16[M, K]; in b : bf16[K, N]")
    yield product(
        "product of a product",
        "c = bf16(a @ b.T) @ d",
        args="in a : bf16[M, K]; in b : bf16[N, K]; in d : bf16[N, J]",
        out="out c : bf16[M, J]",
        dims="M, N, K, J",
    )


_UNARY = "abs sqrt rsqrt exp log tanh sigmoid erf relu gelu gelu_tanh silu sign"


def functions() -> Iterator[Construct]:
    """Functions, elementwise and in an epilogue."""
    groups = {
        f"`{_UNARY}`": _UNARY,
        "casts `f32 bf16 f16 e4m3 e5m2`": "f32 bf16 f16 e4m3 e5m2",
        "prelude `leaky_relu squared_relu`": "leaky_relu squared_relu",
    }
    sums = {title: " + ".join(f"{name}(h)" for name in names.split()) for title, names in groups.items()}
    sums["`isnan fma min max where`, comparisons"] = (
        "where(isnan(h) or not (h > 0 and h <= 9), fma(h, h, 1), min(max(h, 0), 6))"
    )
    sums["prelude `clamp swiglu geglu`"] = "clamp(h, 0, 6) + swiglu(h, h) + geglu(h, h)"
    sums["sizes as numbers, `+ - * /`"] = "-h / N + h * M - 1"
    for title, expression in sums.items():
        yield product(f"{title}, in an epilogue", f"h = a @ b.T; c = {expression}")
        yield plain(f"{title}, elementwise", f"h = f32(x); y = {expression}")
    yield product(
        "`unzip` of halves",
        "g, u = unzip(a @ b.T, N -> F, group = F); c = swiglu(g, u)",
        out="out c : bf16[M, F]",
        dims="M, N, K, F = N / 2",
    )
    yield product(
        "`unzip` in turns of 1",
        "g, u = unzip(a @ b.T, N -> F, group = 1); c = swiglu(g, u)",
        out="out c : bf16[M, F]",
        dims="M, N, K, F = N / 2",
    )
    yield plain(
        "`unzip` elementwise",
        "g, u = unzip(x, N -> F, group = F); y = swiglu(g, u)",
        out="out y : bf16[M, F]",
        dims="M, N, F = N / 2",
    )
    yield product("`hadamard` in an epilogue", "c = hadamard(a @ b.T, over = N, size = 32)")
    yield product("`hadamard` over M in an epilogue", "c = hadamard(a @ b.T, over = M, size = 32)")
    yield plain(
        "`hadamard` elementwise", "y = hadamard(x, over = N, size = 16, signs = s)", args=PLAIN + "; in s : f32[16]"
    )
    yield product(
        "`uniform` in an epilogue", "h = a @ b.T; c = where(uniform(rng, like = h) > 0.1, h, 0)", more="in rng : u64[2]"
    )
    yield plain("`uniform` elementwise", "y = where(uniform(rng) > 0.1, x, 0)", args=PLAIN + "; in rng : u64[2]")
    yield plain(
        "functions of one's own (`use_them`)",
        "y = soft_clip(x) + soft_clip(x, limit = 3.0); r = rms(x, N)",
        out="out y : bf16[M, N]; out r : f32[M]",
        items="fn soft_clip(x, limit = 7.0) = where(abs(x) < limit and not isnan(x), x, sign(x) * limit)\n"
        "fn rms(x, axis) = sqrt(mean_square(x, over = axis))\n",
    )


def reductions() -> Iterator[Construct]:
    """Reductions over each axis."""
    for name in ("max", "min", "sum", "mean", "mean_square"):
        for over, out in (("N", "M"), ("M", "N"), ("all", "")):
            yield product(
                f"`{name}` over {_axis(over)} of a product",
                f"h = a @ b.T; c = h; t = {name}(h, over = {over})",
                more=f"out t : f32[{out}]",
            )
            yield plain(f"`{name}` over {_axis(over)}", f"t = {name}(x, over = {over})", out=f"out t : f32[{out}]")
    batched = "in a : nvfp4[L, M, K]; in b : nvfp4[L, N, K]"
    for name in ("max", "sum"):
        yield product(
            f"`{name}` over a batch axis of a product",
            f"t = {name}(a @ b.T, over = L)",
            args=batched,
            out="out t : f32[M, N]",
            dims="L, M, N, K",
        )
        yield plain(
            f"`{name}` over a batch axis",
            f"t = {name}(x, over = L)",
            args="in x : bf16[L, M, N]",
            out="out t : f32[M, N]",
            dims="L, M, N",
        )
        yield plain(
            f"`{name}` over the last two of three axes",
            f"t = {name}(x, over = (M, N))",
            args="in x : bf16[L, M, N]",
            out="out t : f32[L]",
            dims="L, M, N",
        )
    yield plain("value that uses its own reduction (softmax, rms norm)", "y = x * rsqrt(mean_square(x, over = N))")
    yield product("product scaled by its own reduction", "h = a @ b.T; c = h / max(abs(h), over = N)")
    yield plain("reduction inside an expression", "t = sqrt(sum(x * x, over = N)) + 1", out="out t : f32[M]")


def _axis(name: str) -> str:
    return {"N": "columns", "M": "rows", "all": "everything"}[name]


def quantizing() -> Iterator[Construct]:
    """`quantize` and `dequantize`."""
    for fmt, how in (
        ("nvfp4", ", tensor_scale = s"),
        ("nvfp4", ", amax = s"),
        ("nvfp4_2d", ", amax = s"),
        ("mxfp4", ""),
        ("mxfp6_e3m2", ""),
        ("mxfp6_e2m3", ""),
        ("mxfp8_e4m3", ""),
        ("mxfp8_e5m2", ""),
        ("ds_act", ""),
        ("ds_weight", ""),
        ("fp8_token", ""),
        ("fp8_token", ", scale = r"),
    ):
        more = "in s : f32[]" if "= s" in how else "in r : f32[M]" if how else ""
        yield product(
            f"`{fmt}` output of a product, `quantize(h{how})`",
            f"q = quantize(a @ b.T{how})",
            more=more,
            out=f"out q : {fmt}[M, N]",
        )
        yield plain(
            f"`{fmt}` output, `quantize(x{how})`",
            f"q = quantize(x{how})",
            args="; ".join(filter(None, (PLAIN, more))),
            out=f"out q : {fmt}[M, N]",
        )
    yield product(
        "quantized output in column direction of a product", "q = quantize((a @ b.T).T)", out="out q : mxfp8[N, M]"
    )
    yield plain("quantized output in column direction", "q = quantize(x.T)", out="out q : mxfp8[N, M]")
    yield product(
        "tensor scale for each batch, of a product",
        "q = quantize(a @ b.T, tensor_scale = s)",
        args="in a : nvfp4[E, M, K]; in b : nvfp4[E, N, K]; in s : f32[E]",
        out="out q : nvfp4_experts[E, M, N]",
        dims="E, M, N, K",
    )
    yield plain(
        "tensor scale for each batch",
        "q = quantize(x, amax = s)",
        args="in x : bf16[E, M, N]; in s : f32[E]",
        out="out q : nvfp4_experts[E, M, N]",
        dims="E, M, N",
    )
    yield product(
        "stochastic rounding of a product",
        "q = quantize(a @ b.T, amax = s, rounding = stochastic(rng))",
        more="in rng : u64[2]; in s : f32[]",
        out="out q : nvfp4[M, N]",
    )
    yield plain(
        "stochastic rounding",
        "q = quantize(x, amax = s, rounding = stochastic(rng))",
        args=PLAIN + "; in rng : u64[2]; in s : f32[]",
        out="out q : nvfp4[M, N]",
    )
    yield plain("`quantize` stored nowhere, then dequantized", "y = dequantize(quantize(x, format = mxfp8))")
    yield plain("quantized input elementwise, `dequantize(q)`", "y = dequantize(q)", args="in q : nvfp4[M, N]")
    yield plain("`dequantize(q)` of an input without a tensor scale", "y = dequantize(q)", args="in q : mxfp8[M, N]",
                dims="M, N = 256")  # fmt: skip
    yield product("quantized input in an epilogue", "c = a @ b.T + q", more="in q : mxfp8[M, N]")
    yield plain(
        "one format to another", "q = quantize(dequantize(x))", args="in x : nvfp4[M, N]", out="out q : mxfp8[M, N]"
    )


def layouts() -> Iterator[Construct]:
    """Layouts of operands and outputs."""
    for name in ("blocked_128x4", "blocked_8x4", "linear", "mine"):
        items = f"format f extends mxfp8 {{ layout {name} }}\n"
        if name == "mine":
            items += (
                "layout mine { coords row : 64, k : 2; atom ((16, 4), 2) : ((4, 1), 64); order row, k, batch; pad 0 }\n"
            )
        title = "a layout of one's own" if name == "mine" else f"`{name}`"
        yield product(f"operands with scales in {title}", args="in a : f[M, K]; in b : f[N, K]", items=items)
        yield product(
            f"output of a product with scales in {title}", "q = quantize(a @ b.T)", out="out q : f[M, N]", items=items
        )
        yield plain(f"output with scales in {title}", "q = quantize(x)", out="out q : f[M, N]", items=items)


def schedules() -> Iterator[Construct]:
    """Fields of a schedule."""
    fields = (
        "tile 128 x 128 x 256",
        "cluster 2 x 1",
        "cta_group 2",
        "stages 3",
        "stages auto",
        "accumulators 1",
        "convert once",
        "convert tile",
        "split_k 1",
        "split_k 4",
        "swap_ab no",
        "swap_ab yes",
        "swap_ab auto",
        "raster along_m",
        "raster along_n",
        "raster 4",
        "reduce ordered",
        "reduce atomic",
        "store auto",
        "store tma",
        "store direct",
        "overlap early",
        "overlap late",
    )
    for field in fields:
        aligned = {"dims": "M, N = 512, K"} if field == "store tma" else {}  # TMA must be able to store every tile
        adds = {"store": "c = c + a @ b.T", "out": "inout c : f32[M, N]"} if field == "reduce atomic" else {}
        yield product(f"`{field}`", schedule=f"{{ {field} }}", **aligned, **adds)
    yield product("`when` on a dynamic dim", schedule="when M <= 128 { stages 3 }")


SECTIONS = {
    "Arguments": arguments,
    "Products": products,
    "Functions": functions,
    "Reductions": reductions,
    "Quantizing": quantizing,
    "Layouts": layouts,
    "Schedules": schedules,
}

OPERANDS = (
    "nvfp4",
    "nvfp4_2d",
    "mxfp4",
    "mxfp6_e3m2",
    "mxfp6_e2m3",
    "mxfp8_e4m3",
    "mxfp8_e5m2",
    "fp8_token",
    "ds_act",
    "ds_weight",
    "bf16",
    "f16",
    "e4m3",
    "e5m2",
)
