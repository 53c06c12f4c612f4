"""Compare fp4num's quantizers with other projects' own code on 10^6 values, and write vectors.npz from its output.

Needs what the tests do not: torch, torchao, compressed-tensors, nvidia-modelopt, and checkouts of Transformer Engine
and DeepGEMM, of which only a reference quantizer in plain torch is loaded.

    python make_vectors.py --transformer-engine ~/TransformerEngine --deepgemm ~/DeepGEMM

Run on 2026-11-23 with torch 2.13.0, torchao 0.18.0, compressed-tensors 0.20.0, ModelOpt 0.47.0, Transformer Engine of
2026-08-22 and DeepGEMM of 2026-06-23. Nothing differs but what torchao's rceil does with a rounded log2: one block in
two million, where amax / 6 is a few ulp over a power of two. Transformer Engine's reference, compressed-tensors and
ModelOpt write +0 for some -0: zeros are compared as equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import quantize as ct_quantize
from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
from modelopt.torch.quantization.qtensor import NVFP4QTensor
from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx
from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize
from torchao.prototype.mx_formats.utils import to_blocked

import fp4num

Pair = tuple[np.ndarray, np.ndarray]
ELEMENTS = {"mxfp4": torch.float4_e2m1fn_x2, "mxfp8_e4m3": torch.float8_e4m3fn, "mxfp8_e5m2": torch.float8_e5m2}
MODES = {"floor": "FLOOR", "rceil": "RCEIL", "ceil": "CEIL", "even": "EVEN"}


def inputs(rows: int, columns: int, seed: int) -> np.ndarray:
    """Rows of very different magnitude, zeros of both signs, a zero block, a zero row, tiny and huge rows."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, columns)) * np.exp2(random.integers(-12, 12, (rows, 1)))
    x[1, :32] = 0
    x[2] = 0
    x[3, 0] = -0.0
    x[4] *= 1e-30
    x[5] *= 1e20
    x[6] = np.round(x[6] * 2) / 2
    return x.astype(np.float32)


def te_reference(path: Path) -> Any:
    """Transformer Engine's reference quantizer, its package's compiled parts stubbed out."""
    for name in ("transformer_engine", "transformer_engine.pytorch", "transformer_engine.pytorch.custom_recipes"):
        sys.modules[name] = types.ModuleType(name)
    recipes = sys.modules["transformer_engine.pytorch.custom_recipes"]
    for name in ("gemm", "reference_utils"):
        setattr(recipes, name, types.ModuleType(name))
    recipes.reference_utils.Fp4Formats = object  # used in annotations and defaults only
    recipes.gemm.MMParams, recipes.gemm.GEMMType = object, types.SimpleNamespace(FPROP=None)
    storage = types.ModuleType("transformer_engine.pytorch.quantized_tensor")
    storage.QuantizedTensorStorage = storage.Quantizer = object  # type: ignore[attr-defined]
    sys.modules[storage.__name__] = storage
    return load(path / "transformer_engine/pytorch/custom_recipes/reference_nvfp4.py").NVFP4QuantizerRef


def load(file: Path) -> Any:
    """One file of a checkout as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plus_zero(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes, one a byte, with -0 as +0."""
    unpacked = fp4num.unpack(codes, bits)
    return np.where(unpacked == 1 << (bits - 1), 0, unpacked)


def raw(t: torch.Tensor) -> np.ndarray:
    return t.contiguous().view(torch.uint8).numpy()


def te(ref: Any, rows: int, **options: Any) -> Callable[[np.ndarray], Pair]:
    def run(x: np.ndarray) -> Pair:
        t = torch.from_numpy(x)
        amax = t.abs().max()
        codes, scales = ref._quantize_blockwise_reference(t, amax, 16, rows, pow_2_scales=False, eps=0.0, **options)
        return raw(codes), raw(scales)

    return run


def torchao_nvfp4(scale: float | None) -> Callable[[np.ndarray], Pair]:
    def run(x: np.ndarray) -> Pair:
        per_tensor = None if scale is None else torch.tensor(scale)
        scales, codes = nvfp4_quantize(torch.from_numpy(x), 16, per_tensor)
        return raw(codes), raw(scales)

    return run


def torchao_mx(fmt: str, mode: str) -> Callable[[np.ndarray], Pair]:
    def run(x: np.ndarray) -> Pair:
        scales, codes = to_mx(torch.from_numpy(x), ELEMENTS[fmt], 32, getattr(ScaleCalculationMode, mode))
        return raw(codes), raw(scales)

    return run


def deepgemm(function: Callable[..., Any], ue8m0: bool) -> Callable[[np.ndarray], Pair]:
    def run(x: np.ndarray) -> Pair:
        codes, scales = function(torch.from_numpy(x), use_ue8m0=ue8m0)
        numbers = scales.numpy()
        return raw(codes), fp4num.encode(numbers, "e8m0") if ue8m0 else numbers

    return run


def modelopt(x: np.ndarray) -> Pair:
    quantized, scales, _ = NVFP4QTensor.quantize(torch.from_numpy(x.copy()), 16)
    return raw(quantized._quantized_data), raw(scales)


def compressed_tensors(x: np.ndarray) -> Pair:
    t = torch.from_numpy(x)
    args = QuantizationArgs(
        num_bits=4, type="float", strategy="tensor_group", group_size=16, scale_dtype=torch.float8_e4m3fn
    )
    global_scale = generate_gparam(t.min(), t.max())
    blocks = t.reshape(t.shape[0], -1, 16)
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, global_scale)
    values = ct_quantize(x=t, scale=scale, zero_point=zero, args=args, global_scale=global_scale)
    codes = fp4num.encode(values.float().numpy(), "e2m1")  # exact: the values lie on the grid
    return fp4num.pack(codes, 4), fp4num.encode(scale.float().numpy(), "e4m3")


def cases(ref: Any, dg: Any) -> dict[str, tuple[Callable[[np.ndarray], Pair], str, dict[str, Any]]]:
    """name -> (their code, our format, our arguments)."""
    out: dict[str, tuple[Callable[[np.ndarray], Pair], str, dict[str, Any]]] = {
        "te_1d": (te(ref, 1), "nvfp4", {}),
        "te_2d": (te(ref, 16), "nvfp4_2d", {}),
        "ct_nvfp4": (compressed_tensors, "nvfp4", {"quantizer": "nvfp4_ct"}),
        "mo_nvfp4": (modelopt, "nvfp4", {"quantizer": "nvfp4_modelopt"}),
        "ao_nvfp4": (torchao_nvfp4(None), "nvfp4_single", {}),
        "ao_nvfp4_scaled": (torchao_nvfp4(0.0123), "nvfp4", {"quantizer": "nvfp4_torchao", "tensor_scale": 0.0123}),
    }
    for metric in ("MAE", "MSE"):
        for top, suffix in ((448, ""), (256, "_256")):
            for rows, fmt in ((1, "nvfp4"), (16, "nvfp4_2d")):
                options = {"nvfp4_use_4over6": True, "nvfp4_e4m3_max": top, "nvfp4_4over6_err_mode": metric}
                name = f"nvfp4_4over6_{metric.lower()}{suffix}"
                out[f"te_{name}_{rows}"] = (te(ref, rows, **options), fmt, {"quantizer": name})
    out["dg_act"] = (deepgemm(dg.per_token_cast_to_fp8, False), "ds_act", {})
    out["dg_weight"] = (deepgemm(dg.per_block_cast_to_fp8, False), "ds_weight", {})
    out["dg_act_ue8m0"] = (deepgemm(dg.per_token_cast_to_fp8, True), "ds_act_ue8m0", {})
    for fmt in ELEMENTS:
        for mode, theirs in MODES.items():
            out[f"ao_{fmt}_{mode}"] = (torchao_mx(fmt, theirs), fmt, {"quantizer": f"mx_{mode}"})
    return out


def linear(name: str) -> fp4num.BlockFormat:
    if name == "nvfp4_single":
        single = replace(fp4num.FORMATS["nvfp4"], tensor_scale=None, quantizer="nvfp4_torchao")
        return replace(single, layout=fp4num.LAYOUTS["linear"])
    if name == "ds_act_ue8m0":
        return replace(fp4num.FORMATS["ds_act"], scale="e8m0")
    return replace(fp4num.FORMATS[name], layout=fp4num.LAYOUTS["linear"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transformer-engine", type=Path, required=True)
    parser.add_argument("--deepgemm", type=Path, required=True)
    arguments = parser.parse_args()
    everything = cases(te_reference(arguments.transformer_engine), load(arguments.deepgemm / "deep_gemm/utils/math.py"))
    small = inputs(32, 128, 7)
    vectors = {"x": small, "blocked_in": np.arange(200 * 6, dtype=np.uint32).astype(np.uint8).reshape(200, 6)}
    vectors["blocked_out"] = raw(to_blocked(torch.from_numpy(vectors["blocked_in"]))).reshape(-1)
    for name, (theirs, fmt, options) in everything.items():
        for seed in range(2):
            x = inputs(1024, 1024, seed)
            if "mx" in name:
                x[8, 3], x[9, 40] = np.inf, -np.inf
            codes, scales = theirs(x)
            q = fp4num.quantize(x, linear(fmt), **options)
            ours, theirs_plain = (plus_zero(c.reshape(q.codes.shape), q.format.bits) for c in (q.codes, codes))
            wrong = int((ours != theirs_plain).sum()), int((scales.reshape(-1) != q.scales).sum())
            print(f"{name}: {x.size} values, {wrong[0]} codes and {wrong[1]} scales differ")
        codes, scales = theirs(small)
        vectors[f"{name}.codes"], vectors[f"{name}.scales"] = codes.reshape(32, -1), scales.reshape(-1)
    np.savez_compressed(Path(__file__).with_name("vectors.npz"), **vectors)


if __name__ == "__main__":
    main()
