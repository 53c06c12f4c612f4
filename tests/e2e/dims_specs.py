"""Sizes that are computed from dims, in every role that a size has in a kernel."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Each way to make a size of H and D, with the sizes at which it is run.
SIZES = {
    "H * D": (96, 2), "3 * H": (32, 0), "H * 3": (32, 0), "D * H * 2": (16, 4), "H / 3": (96, 0), "H // 3": (97, 0),
    "H % 70": (134, 0), "min(H, D)": (64, 96), "max(H, 8)": (64, 0), "ceildiv(H, 16)": (1000, 0), "H + D": (60, 4),
    "H - 1": (65, 0), "H * D / 2": (64, 2), "H * H": (8, 0), "2 * (H + D)": (30, 2), "H / D": (128, 2),
    "64 * H": (2, 0), "16 * (H // 3)": (14, 0), "(H + D) * (H - D)": (12, 4),
}  # fmt: skip
#: A kernel for each role of X: the rest of its declarations, and its body.
ROLES = {
    "rows": "in a : nvfp4[X, K]; in b : nvfp4[N, K]; out y : bf16[X, N]; y = a @ b.T",
    "columns": "in a : nvfp4[M, K]; in b : nvfp4[X, K]; out y : bf16[M, X]; y = a @ b.T",
    "transposed": "in a : nvfp4[M, K]; in b : nvfp4[X, K]; out y : f32[X, M]; y = (a @ b.T).T",
    "epilogue": """in a : nvfp4[M, K]; in b : nvfp4[X, K]; in r : bf16[M, X]; in c : f32[X]; inout y : bf16[M, X]
        y = a @ b.T + r * c + y""",
    "k": "in a : nvfp4[M, X]; in b : nvfp4[N, X]; out y : bf16[M, N]; y = a @ b.T",
    "k_mixed": "in a : mxfp8[M, X]; in b : mxfp4[N, X]; out y : bf16[M, N]; y = a @ b.T",
    "k_plain": "in a : bf16[M, X]; in b : nvfp4[N, X]; out y : bf16[M, N]; y = a @ b.T",
    "k_promoted": "in a : ds_act[M, X]; in b : ds_weight[N, X]; out y : bf16[M, N]; y = a @ b.T",
    "rows_promoted": "in a : ds_act[X, K]; in b : ds_weight[N, K]; out y : bf16[X, N]; y = a @ b.T",
    "columns_promoted": "in a : ds_act[M, K]; in b : ds_weight[X, K]; out y : bf16[M, X]; y = a @ b.T",
    "batch": "in a : nvfp4[X, M, K]; in b : nvfp4[X, N, K]; in s : f32[X]; out y : bf16[X, M, N]; y = a @ b.T * s",
    "row_scales": "in a : fp8_token[M, K]; in b : fp8_token[X, K]; out y : bf16[M, X]; y = a @ b.T",
    "quantized": """in a : nvfp4[M, K]; in b : nvfp4[X, K]; in t : f32[]; out y : nvfp4[M, X]
        y = quantize(a @ b.T, tensor_scale = t)""",
    "quantized_rows": "in a : nvfp4[X, K]; in b : nvfp4[N, K]; out y : mxfp4[N, X]; y = quantize((a @ b.T).T)",
    "two_launches": "in a : nvfp4[M, K]; in b : nvfp4[X, K]; out y : fp8_token[M, X]; y = quantize(a @ b.T)",
    "wide_blocks": "in a : nvfp4[M, K]; in b : nvfp4[X, K]; out y : ds_weight[X, M]; y = quantize((a @ b.T).T)",
    "halves": "in a : nvfp4[M, K]; in b : nvfp4[X, K]; out y : bf16[M, F]; g, u = unzip(a @ b.T, X -> F, group = F)\n"
    "        y = g * u",
    "sum": "in v : bf16[M, X]; out y : f32[M]; y = sum(v, over = X)",
    "sum_rows": "in v : bf16[X, N]; out y : f32[N]; y = sum(v, over = X)",
    "mean": "in v : bf16[X, N]; out y : f32[]; y = mean(v, over = all)",
    "elements": "in v : bf16[M, X]; in c : f32[X]; out y : f16[M, X]; y = v * c",
    "elements_transposed": "in v : bf16[X, N]; out y : f16[N, X]; y = v.T",
    "elements_batch": "in v : bf16[X, M, N]; in u : f32[M, N]; out y : f16[X, M, N]; y = v + u",
    "vector": "in v : bf16[X]; out y : f32[X]; y = v * 2",
    "number": "in v : bf16[M, N]; in c : f32[X]; out y : f32[M, N]; y = v / X",
    "quantizer": "in v : bf16[M, X]; in t : f32[]; out y : nvfp4[M, X]; y = quantize(v, tensor_scale = t)",
    "quantizer_transposed": "in v : bf16[X, N]; out y : mxfp8[N, X]; y = quantize(v.T)",
    "quantizer_wide": "in v : bf16[M, X]; out y : ds_weight[X, M]; y = quantize(v.T)",
    "hadamard": "in v : bf16[M, X]; out y : bf16[M, X]; y = hadamard(v, over = X, size = 16)",
}
#: The same for a type T of whole numbers.
TYPE_ROLES = {
    "tile": "in v : T[M, N]; out y : f32[M, N]; y = v * 2",
    "transposed": "in v : T[N, M]; in w : f32[M, N]; out y : f32[M, N]; y = v.T + w",
    "beside_product": "in a : nvfp4[M, K]; in b : nvfp4[N, K]; in v : T[M, N]; out y : f32[M, N]; y = a @ b.T + v",
    "row": "in w : f32[M, N]; in v : T[M]; out y : f32[M, N]; y = v + w",
    "column": "in w : f32[M, N]; in v : T[N]; out y : f32[M, N]; y = v + w",
    "batch": "in w : f32[L, M, N]; in v : T[L]; out y : f32[L, M, N]; y = v + w",
    "scalar": "in w : f32[M, N]; in v : T[]; out y : f32[M, N]; y = v + w",
    "param": "in w : f32[M, N]; param v : T = 3; out y : f32[M, N]; y = v + w",
    "condition": "in w : f32[M, N]; in v : T[M, N]; out y : f32[M, N]; y = where(v > 3, w, 0)",
    "cast": "in v : T[M, N]; out y : bf16[M, N]; y = bf16(v)",
    "output": "in v : f32[M, N]; out y : T[M, N]; y = v",
    "inout": "in v : f32[M, N]; inout y : T[M, N]; y = y + v",
    "sum": "in v : T[M, N]; out y : f32[M]; y = sum(v, over = N)",
    "max": "in v : T[M, N]; out y : f32[]; y = max(v, over = all)",
    "quantized": "in v : T[M, N]; out y : mxfp4[M, N]; y = quantize(v)",
    "operand": "in a : T[M, K]; in b : nvfp4[N, K]; out y : f32[M, N]; y = a @ b.T",
    "halves": "in v : T[M, N]; out y : f32[M, F]; g, u = unzip(v, N -> F, group = 1); y = g + u",
    "hadamard": "in v : T[M, N]; out y : f32[M, N]; y = hadamard(v, over = N, size = 16)",
    "signs": "in v : f32[M, N]; in s : T[16]; out y : f32[M, N]; y = hadamard(v, over = N, size = 16, signs = s)",
    "random": "in v : f32[M, N]; in s : T[2]; out y : mxfp4[M, N]\n"
    "        y = quantize(v, rounding = stochastic(s, stream = 0))",
    "offsets": "in o : T[E + 1]; in x : nvfp4[M by o, K]; in w : nvfp4[E, N, K]; out y : bf16[M by o, N]; y = x @ w.T",
    "amax": "in v : f32[M, N]; in s : T[]; out y : nvfp4[M, N]; y = quantize(v, amax = s)",
    "unused": "in v : T[M, N]; in w : f32[M, N]; out y : f32[M, N]; y = w",
}  # fmt: skip
TYPES = ("i32", "u32", "u64")


@dataclass(frozen=True)
class Case:
    """A spec, and sizes for all of its dims."""

    text: str
    dims: dict[str, int]


def size_case(size: str, role: str) -> Case:
    """A kernel in which X, in its role, is a size."""
    body = ROLES[role]
    h, d = SIZES[size]
    free = {name: value for name, value in (("H", h), ("D", d)) if name in size}
    own = {name: value for name, value in (("M", 96), ("N", 64), ("K", 128)) if re.search(rf"[\[ ]{name}[,\]]", body)}
    half = ", F = X / 2" if "F]" in body else ""
    inputs = "; ".join(f"in from_{name} : f32[{name}]" for name in free)
    head = f"kernel k({', '.join([*own, *free])}, X = {size}{half})"
    return Case(f"{head} {{\n    {inputs}\n    {body}\n}}\n", {**own, **free})


def type_case(dtype: str, role: str) -> Case:
    """A kernel in which T, in its role, is a type of whole numbers."""
    body = re.sub(r"(?<!\.)\bT\b", dtype, TYPE_ROLES[role])
    sizes = {"L": 2, "E": 2, "M": 70, "N": 64, "K": 128}
    own = {name: value for name, value in sizes.items() if re.search(rf"[\[ ]{name}\b(?! *->)", TYPE_ROLES[role])}
    half = ", F = N / 2" if "F]" in body else ""
    return Case(f"kernel k({', '.join(own)}{half}) {{\n    {body}\n}}\n", own)
