"""Others' products of experts on a Hopper GPU, for hopper_experts.py: each is left out where its package is missing.

Measured: torch 2.11.0, humming-kernels 0.1.19, tokenspeed-triton-kernels 1.0.0.post20260510 (OpenAI's triton_kernels as
a package) on Triton 3.6.0. Of the pair, torch and humming make the two products alone: gating and
biases, which ours and triton_kernels have, are left out in their favor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Weights:
    """One product of all experts: codes u8[E, N, K / 2], scales [E, N, K / block] as they lie in a checkpoint."""

    codes: Any
    scales: Any
    tensor_scale: Any  # f32[E]; None of mxfp4
    bias: Any  # bf16[E, N], or None

    @property
    def shape(self) -> tuple[int, int, int]:
        """E, N, K."""
        e, n, half = self.codes.shape
        return e, n, 2 * half


@dataclass(frozen=True)
class Routed:
    """Rows by expert: offsets i32[E + 1], counts i32[E], and the tokens' logits [T, E]."""

    offsets: Any
    counts: Any
    logits: Any
    top: int


Call = Callable[[], Any]
#: The two products of a routing, from x [M, K] to [M, N] of the second; and a whole layer, from tokens [T, K].
Pair = Callable[[Routed, Any, Any, Any], Call]


def grouped_mm(up: Weights, down: Weights) -> Pair:
    """torch._grouped_mm on bf16 weights (numbers of the same size, not the same numbers)."""
    plain = [torch.empty(w.shape, dtype=torch.bfloat16, device="cuda").normal_(std=0.03) for w in (up, down)]

    def pair(routed: Routed, x: Any, h: Any, y: Any) -> Call:
        del y
        ends = routed.offsets[1:].contiguous()

        def call() -> Any:
            torch._grouped_mm(x, plain[0].mT, offs=ends)
            return torch._grouped_mm(h, plain[1].mT, offs=ends)

        return call

    pair.weights = plain  # type: ignore[attr-defined]
    return pair


def humming(up: Weights, down: Weights, rows: list[int]) -> Pair:
    """humming's grouped kernel for four-bit weights, by its own heuristics; kernels are compiled by NVRTC at once."""
    from humming.kernel.humming import HummingKernel
    from humming.layer import HummingLayer
    from humming.tune import get_heuristics_config

    compute = json.dumps({"gemm_type": "grouped_contiguous"})
    layers, tunings, specs = [], [], []
    for w in (up, down):
        e, n, k = w.shape
        kind = (
            {"quant_method": "mxfp4"} if w.tensor_scale is None else {"quant_method": "modelopt", "quant_algo": "nvfp4"}
        )
        layer = HummingLayer(shape_n=n, shape_k=k, weight_config=kind, input_config={"dtype": "bfloat16"},
                             num_experts=e, torch_dtype=torch.bfloat16).cuda()  # fmt: skip
        tensors = {"weight": w.codes, "weight_scale": w.scales}
        if w.tensor_scale is not None:
            tensors |= {"weight_scale": w.scales.view(torch.float8_e4m3fn), "weight_scale_2": w.tensor_scale}
        layer.load_from_tensors(tensors)
        layer.transform()
        config = layer.humming_config
        tuned = {m: get_heuristics_config(config, shape_m=m, gemm_type="grouped_contiguous") for m in rows}
        layers.append(layer)
        tunings.append(tuned)
        base = {key: value for key, value in json.loads(config.to_str()).items() if key != "sublayer_name"}
        specs += [(HummingKernel, base | json.loads(compute) | {k: v for k, v in t.items() if k != "num_sms"})
                  for t in tuned.values()]  # fmt: skip
    HummingKernel.compile_many(specs)

    def pair(routed: Routed, x: Any, h: Any, y: Any) -> Call:
        layout, m = routed.offsets.long(), x.shape[0]
        wide = torch.empty(m, up.shape[1], dtype=torch.bfloat16, device="cuda")
        tuned = [json.dumps(t[m]) for t in tunings]

        def call() -> Any:
            for layer, source, out, tuning in zip(layers, (x, h), (wide, y), tuned, strict=True):
                layer(source, outputs=out, expert_layout=layout, compute_config=compute, tuning_config=tuning)
            return y

        return call

    return pair


def _shimmed() -> None:
    """The package is newer than Triton 3.6: give that the names it lacks (an AMD chip, line numbers)."""
    import triton
    import triton.language.target_info as info

    info.is_hip_gfx1250 = getattr(info, "is_hip_gfx1250", info.is_hip_cdna4)
    for name in ("def_file_line_number", "def_file_col_number"):
        if not hasattr(triton.JITFunction, name):
            setattr(triton.JITFunction, name, 1)


class TritonKernels:
    """OpenAI's kernels for gpt-oss: mxfp4 weights in their Hopper layout, gating fused; the whole layer by theirs."""

    def __init__(self, up: Weights, down: Weights) -> None:
        _shimmed()
        from triton_kernels.matmul import FnSpecs, FusedActivation, PrecisionConfig
        from triton_kernels.swiglu import swiglu_fn
        from triton_kernels.tensor import FP4, convert_layout, wrap_torch_tensor
        from triton_kernels.tensor_details import layout

        values = layout.make_default_matmul_mxfp4_w_layout(mx_axis=-2)
        scales = layout.make_default_matmul_mxfp4_w_scale_layout(mx_axis=-2, num_warps=8)
        self.weights = []
        for w in (up, down):
            b = convert_layout(wrap_torch_tensor(w.codes.mT, dtype=FP4), values)
            s = convert_layout(wrap_torch_tensor(w.scales.mT), scales)
            config = PrecisionConfig(b_mx_scale=s, b_microblock_size=32, out_dtype=torch.bfloat16)
            self.weights.append((b, w.bias.float(), config))
        self.gated = FusedActivation(FnSpecs("swiglu", swiglu_fn, ("alpha", "limit"), reduction_n=2), (1.702, 7.0))

    def pair(self, routed: Routed, x: Any, h: Any, y: Any) -> Call:
        """The two products of rows by expert."""
        from triton_kernels.matmul import matmul
        from triton_kernels.tensor import make_ragged_tensor_metadata

        groups = make_ragged_tensor_metadata(routed.counts, x.shape[0])
        (b1, bias1, c1), (b2, bias2, c2) = self.weights

        def call() -> Any:
            matmul(x, b1, bias1, a_ragged_metadata=groups, precision_config=c1, fused_activation=self.gated, c=h)
            return matmul(h, b2, bias2, a_ragged_metadata=groups, precision_config=c2, c=y)

        return call

    def layer(self, routed: Routed, x: Any) -> Call:
        """From logits and tokens to tokens, as their own benchmark of an MLP has it."""
        from triton_kernels.matmul import matmul
        from triton_kernels.reduce import reduce
        from triton_kernels.tensor import make_ragged_tensor_metadata
        from triton_kernels.topk import topk

        (b1, bias1, c1), (b2, bias2, c2) = self.weights
        tokens, top = x.shape[0], routed.top

        def call() -> Any:
            sparse = topk(routed.logits, top, apply_softmax=True)
            order, counts = sparse.mask_metadata.col_sorted_indx, sparse.mask_metadata.col_sum
            groups = make_ragged_tensor_metadata(counts, tokens * top)
            source = torch.div(order, top, rounding_mode="trunc")
            h = matmul(x, b1, bias1, a_ragged_metadata=groups, gather_indx=source, precision_config=c1,
                       fused_activation=self.gated)  # fmt: skip
            y = matmul(h, b2, bias2, a_ragged_metadata=groups, scatter_indx=order, precision_config=c2,
                       gammas=sparse.vals.reshape(-1)[order.long()])  # fmt: skip
            return reduce(y.view(tokens, top, -1), dim=1)[0]

        return call
