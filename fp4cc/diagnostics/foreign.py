"""Words of Python, PyTorch, CUDA and C++ that people write into specs, and what they are here.

Values are help lines. In those of FUNCTIONS the first text in backquotes is an expression over `x`, `x[M, N]` and so
on that stands for the call; a test checks that each one compiles.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_ROUNDING = "there is no rounding to whole numbers: `bf16(x)`, `f16(x)`, `e4m3(x)` and `e5m2(x)` round to a type"
_NO_ORDER = "nothing is sorted or selected by rank; the reductions are `max(x, over = N)`, min, sum, mean, mean_square"
_NO_VIEWS = "axes are neither joined nor cut, but for halves: `g, u = unzip(x, N -> F, group = F)`"
_NO_ANGLES = "there are no trigonometric functions: compute them before and give them as an input, here `x`"
_NO_SCAN = "there are no running sums; over whole axes there is `sum(x, over = N)`"
_PRODUCT = "a product of matrices is `a @ b.T`"
_TRANSPOSED = "write `x.T`: it swaps the last two axes"
_DRAW = "random numbers are `uniform(rng, stream = 0)`, with `in rng : u64[2]`"
_ROOT = "the norm over an axis is `sqrt(sum(x * x, over = N))`"
_NORM = "write it out: `x * rsqrt(mean_square(x, over = N) + 0.00001)`"
_LAYER_NORM = "write it out: `(x - mean(x, over = N)) * rsqrt(mean_square(x - mean(x, over = N), over = N) + 0.00001)`"
_SOFTMAX = "write it out: `exp(x - max(x, over = N)) / sum(exp(x - max(x, over = N)), over = N)`"
_VARIANCE = "write it out: `mean_square(x - mean(x, over = N), over = N)`"
_DROPOUT = "write it out: `where(uniform(rng) >= 0.1, x / 0.9, 0)`"

_CAST = "write `bf16(x)`: the name of a type rounds to it"
_STRING = 'strings are in straight double quotes: `"file.fp4"`'

FUNCTIONS: Mapping[str, str] = {
    "swish": "write `silu(x)`", "logistic": "write `sigmoid(x)`", "sigm": "write `sigmoid(x)`",
    "gelu_new": "write `gelu_tanh(x)`", "gelu_fast": "write `gelu_tanh(x)`", "gelu_approx": "write `gelu_tanh(x)`",
    "tanh_gelu": "write `gelu_tanh(x)`", "gelu_erf": "write `gelu(x)`",
    "quick_gelu": "write `x * sigmoid(1.702 * x)`", "relu6": "write `clamp(x, 0, 6)`",
    "relu2": "write `squared_relu(x)`",
    "hardtanh": "write `clamp(x, -1, 1)`", "hardsigmoid": "write `clamp(x + 3, 0, 6) / 6`",
    "hardswish": "write `x * clamp(x + 3, 0, 6) / 6`", "softplus": "write `log(1 + exp(x))`",
    "mish": "write `x * tanh(log(1 + exp(x)))`", "elu": "write `where(x > 0, x, exp(x) - 1)`",
    "softsign": "write `x / (1 + abs(x))`", "prelu": "write `leaky_relu(x, slope = 0.25)`",
    "lrelu": "write `leaky_relu(x)`", "reglu": "write `relu(x) * x`", "glu": "write `x * sigmoid(x)`",
    "clip": "write `clamp(x, 0, 1)`", "saturate": "write `clamp(x, 0, 1)`",
    "maximum": "write `max(x, 0)`", "fmax": "write `max(x, 0)`", "minimum": "write `min(x, 0)`",
    "fmin": "write `min(x, 0)`", "fabs": "write `abs(x)`", "absolute": "write `abs(x)`", "negative": "write `-x`",
    "pow": "there is no power: multiply `x * x`, or write `exp(3 * log(x))` for x > 0",
    "power": "there is no power: multiply `x * x`, or write `exp(3 * log(x))` for x > 0",
    "square": "write `x * x`", "exp2": "write `exp(x * 0.6931472)`", "expm1": "write `exp(x) - 1`",
    "log2": "write `log(x) * 1.442695`", "ln": "write `log(x)`", "log10": "write `log(x) * 0.4342945`",
    "log1p": "write `log(1 + x)`", "reciprocal": "write `1 / x`", "rcp": "write `1 / x`", "inv": "write `1 / x`",
    "div": "write `x / 2`", "mul": "write `x * 2`", "add": "write `x + 2`", "sub": "write `x - 2`",
    "select": "write `where(x > 0, x, 0)`", "cond": "write `where(x > 0, x, 0)`",
    **dict.fromkeys(("sin", "cos", "tan", "atan", "atan2", "asin", "acos"), _NO_ANGLES),
    "sinh": "write `(exp(x) - exp(-x)) / 2`", "cosh": "write `(exp(x) + exp(-x)) / 2`", "erfc": "write `1 - erf(x)`",
    "isinf": "compare: `where(abs(x) > 3.4028235e38, 0, x)`",
    "isfinite": "compare: `where(abs(x) <= 3.4028235e38, x, 0)`",
    "int": _NO_ROUNDING, "floor": _NO_ROUNDING,
    "ceil": _NO_ROUNDING, "round": _NO_ROUNDING, "trunc": _NO_ROUNDING, "rint": _NO_ROUNDING,
    "topk": _NO_ORDER, "top_k": _NO_ORDER, "sort": _NO_ORDER, "argsort": _NO_ORDER, "argmax": _NO_ORDER,
    "argmin": _NO_ORDER, "median": _NO_ORDER, "cumsum": _NO_SCAN, "cumprod": _NO_SCAN, "scan": _NO_SCAN,
    "reduce_sum": "write `sum(x, over = N)`", "reduce_max": "write `max(x, over = N)`",
    "reduce_min": "write `min(x, over = N)`", "amax": "write `max(abs(x), over = N)`",
    "absmax": "write `max(abs(x), over = N)`", "avg": "write `mean(x, over = N)`",
    "average": "write `mean(x, over = N)`",
    "norm": _ROOT, "l2norm": _ROOT, "var": _VARIANCE, "variance": _VARIANCE,
    "std": "write it out: `sqrt(mean_square(x - mean(x, over = N), over = N))`",
    "rmsnorm": _NORM, "rms_norm": _NORM, "layernorm": _LAYER_NORM, "layer_norm": _LAYER_NORM,
    "softmax": _SOFTMAX, "dropout": _DROPOUT, "rand": _DRAW, "random": _DRAW, "randn": _DRAW, "rng": _DRAW,
    "transpose": _TRANSPOSED, "trans": _TRANSPOSED, "permute": _TRANSPOSED, "swapaxes": _TRANSPOSED, "t": _TRANSPOSED,
    "mm": _PRODUCT, "bmm": _PRODUCT, "dot": _PRODUCT, "gemm": _PRODUCT, "linear": _PRODUCT,
    "einsum": _PRODUCT, "mma": _PRODUCT,
    "concat": _NO_VIEWS, "cat": _NO_VIEWS, "stack": _NO_VIEWS, "split": _NO_VIEWS, "chunk": _NO_VIEWS,
    "reshape": _NO_VIEWS, "view": _NO_VIEWS, "slice": _NO_VIEWS, "interleave": _NO_VIEWS,
    "cast": _CAST, "astype": _CAST, "to": _CAST, "convert": _CAST,
    "float": "write `f32(x)`", "float32": "write `f32(x)`", "half": "write `f16(x)`", "float16": "write `f16(x)`",
    "bfloat16": "write `bf16(x)`", "fp8": "write `e4m3(x)`",
    "quant": "write `quantize(x)`, assigned to an output that has a format",
    "dequant": "write `dequantize(q)`; a quantized input used elementwise is dequantized by itself",
    "load": "an argument is read by its name: `x`", "store": "an output is stored by assigning to it: `y = x`",
    "print": "nothing is printed; `fp4cc run` shows the outputs",
}  # fmt: skip

_NO_TRUTH = "truth values are not written: compare, such as `x > 0`"
#: Names of constants.
VALUES: Mapping[str, str] = {
    "true": _NO_TRUTH, "false": _NO_TRUTH, "none": "there is no None: leave it out", "null": "leave it out",
    **dict.fromkeys(("inf", "infinity"), "the largest f32 is `3.4028235e38`"), "pi": "write `3.1415927`",
    "nan": "a NaN is not written; `isnan(x)` finds one",
}  # fmt: skip

_NO_SMALL = "integers are i32, u32 and u64; what is stored in 8 bits or fewer is a float type or a format such as nvfp4"
TYPES: Mapping[str, str] = {
    **dict.fromkeys(("float32", "fp32", "float", "f64", "float64", "fp64", "double", "tf32"), "f32"),
    **dict.fromkeys(("float16", "fp16", "half"), "f16"),
    **dict.fromkeys(("bfloat16", "bfloat", "nv_bfloat16"), "bf16"),
    **dict.fromkeys(("fp8", "f8", "float8", "float8_e4m3", "float8_e4m3fn", "fp8_e4m3", "e4m3fn", "f8e4m3"), "e4m3"),
    **dict.fromkeys(("float8_e5m2", "fp8_e5m2", "f8e5m2"), "e5m2"),
    **dict.fromkeys(("fp4", "f4", "float4", "e2m1", "fp4_e2m1", "float4_e2m1fn_x2", "nvf4"), "nvfp4"),
    **dict.fromkeys(("mxf4",), "mxfp4"), **dict.fromkeys(("fp6", "f6", "mxf6"), "mxfp6"),
    **dict.fromkeys(("mxf8", "mxfp8_e4m3fn"), "mxfp8"),
    **dict.fromkeys(("int", "int32", "int32_t", "s32", "int64", "i64", "long"), "i32"),
    **dict.fromkeys(("uint32", "uint32_t", "unsigned"), "u32"), **dict.fromkeys(("uint64", "uint64_t"), "u64"),
}  # fmt: skip
_SMALL_INTEGERS = ("int8", "uint8", "i8", "u8", "int4", "uint4", "i4", "u4", "int16", "i16", "u16", "char", "byte")

#: What statements and items of other languages start with, and what stands for them here.
STATEMENTS: Mapping[str, str] = {
    "return": "nothing is returned: assign to an output, such as `c = a @ b.T` with `out c : bf16[M, N]`",
    **dict.fromkeys(("let", "var", "const", "auto", "val"), "a name is given by assigning: `h = a @ b.T`"),
    **dict.fromkeys(("float", "int", "half", "bool", "double"), "values have no declared type: write `h = a @ b.T`"),
    **dict.fromkeys(("for", "while", "do"), "there are no loops: operations work on whole tensors"),
    **dict.fromkeys(("if", "else", "elif"), "choose element by element: `where(x > 0, x, 0)`"),
    **dict.fromkeys(("assert", "require"), "conditions on sizes stand in the head: `kernel k(M) where M % 16 == 0 {`"),
    "print": "nothing is printed; `fp4cc run` shows the outputs",
    "pass": "leave it out",
    **dict.fromkeys(("import", "from"), 'another file is used by `use "lib/formats.fp4"`, outside of kernels'),
}  # fmt: skip
_FN = "a function is one expression: `fn f(x) = x * x`; a kernel is `kernel NAME(M, N, K) { ... }`"
ITEMS: Mapping[str, str] = {
    **dict.fromkeys(("def", "func", "function", "void", "template", "static", "inline", "lambda"), _FN),
    **dict.fromkeys(("__global__", "__device__", "extern", "struct", "class"), _FN),
    **dict.fromkeys(("import", "from", "include", "using"), 'another file is used by `use "lib/formats.fp4"`'),
    "type": "a type of quantized tensors is `format NAME extends nvfp4 { ... }`",
}

#: Characters and what to write for them.
CHARACTERS: Mapping[str, str] = {
    "&": "write `and`", "|": "write `or`", "!": "write `not`", "~": "write `not`",
    "^": "there is no power operator; multiply, or use `exp` and `log`",
    "?": "choose with `where(condition, a, b)`",
    "'": 'strings are in double quotes: `"file.fp4"`',
    **dict.fromkeys("\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb", _STRING),
    "`": 'strings are in double quotes: `"file.fp4"`; names need no quotes',
    "$": "names are letters, digits and `_`",
    "\\": "a line goes on inside parentheses, or before a line that starts with an operator",
    "\u00d7": "write `*` element by element, `@` for products, and `x` between extents", "\u00b7": "write `*` or `@`",
    "\u2264": "write `<=`", "\u2265": "write `>=`", "\u2260": "write `!=`", "\u2192": "write `->`",
    **dict.fromkeys("\u2212\u2013\u2014", "write `-`"),
    **dict.fromkeys("\u00a0\u2007\u202f\u200b\u2060", "this looks like a blank and is none: type it anew"),
    "\r": "lines end in a line feed, or a carriage return and a line feed: save the file with such line ends",
}  # fmt: skip


def function_help(name: str) -> str:
    """What to write for a function that does not exist, or "": also for CUDA's `expf`, `__expf` and `tl.exp`."""
    folded = name.casefold().strip("_")
    if folded in FUNCTIONS:
        return FUNCTIONS[folded]
    stem = folded.removesuffix("f")
    known = ("exp", "log", "tanh", "sqrt", "rsqrt", "erf", "fma", "abs")
    return f"write `{stem}(...)`" if stem in known and stem != name else FUNCTIONS.get(stem, "")


def type_help(name: str) -> str:
    """What to write for a type that does not exist, or ""."""
    folded = name.casefold().strip("_")
    if folded in _SMALL_INTEGERS:
        return _NO_SMALL
    return f"did you mean `{TYPES[folded]}`?" if folded in TYPES else ""
