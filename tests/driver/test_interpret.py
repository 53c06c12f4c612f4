"""The whole language runs on the reference, also what no target can be compiled for yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4cc.driver import Request, RequestError, read_spec
from fp4cc.driver.interpret import interpreted
from fp4cc.driver.sizes import call_sizes
from fp4num import decode
from fp4rt import dequantize, quantize
from fp4rt.inputs import random_inputs

SPEC = Path(__file__).parents[1] / "sema" / "specs" / "language.fp4"
SIZES = {
    "mlp_up": {"M": 64, "N": 64, "K": 64},
    "gated": {"M": 16, "N": 48, "K": 32},
    "swiglu_up": {"M": 16, "N": 64, "K": 32},
    "batched": {"L": 2, "M": 16, "N": 16, "K": 32},
    "moe": {"E": 3, "M": 48, "N": 16, "K": 32},
    "masked": {"E": 3, "M": 16, "N": 16, "K": 32},
    "quant_out": {"M": 32, "N": 48, "K": 64},
    "quantize_dy_t": {"M": 32, "N": 8},
    "square": {"N": 16},
}


def run(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Random inputs of a kernel and its outputs on the reference."""
    sizes = SIZES[name]
    fixed = {n: s for n, s in sizes.items() if name == "mlp_up" and n != "M"}
    artifact = interpreted(Request(read_spec(SPEC), "sm_100a", fixed, name))
    dims = call_sizes(artifact.manifest, {n: s for n, s in sizes.items() if n not in fixed})
    inputs = random_inputs(artifact.manifest, dims, 0)
    return inputs, artifact.load_kernel("reference")(**inputs)


@pytest.mark.parametrize("name", SIZES)
def test_every_kernel_runs(name: str) -> None:
    assert run(name)[1]


def test_two_products() -> None:
    inputs, outputs = run("gated")
    x, wg, wu = (dequantize(inputs[n]).astype(np.float64) for n in ("x", "wg", "wu"))
    g, u = x @ wg.T, x @ wu.T
    with np.errstate(over="ignore"):  # what f16 lacks is infinite
        wanted = (g / (1 + np.exp(-g)) * u).astype(np.float16)
    np.testing.assert_allclose(outputs["y"], wanted, rtol=2e-3, atol=1e-3)


def test_ragged_groups_meet_their_own_weights() -> None:
    inputs, outputs = run("moe")
    x, w, offsets = dequantize(inputs["x"]), dequantize(inputs["w"]), inputs["offsets"]
    y = decode(outputs["y"], "bf16")
    for e in range(3):
        rows = slice(int(offsets[e]), int(offsets[e + 1]))
        wanted = x[rows].astype(np.float64) @ w[e].T.astype(np.float64)
        np.testing.assert_allclose(y[rows], wanted, rtol=1e-2, atol=1e-2)


def test_columns_are_quantized_as_rows_of_the_transpose() -> None:
    inputs, outputs = run("quant_out")
    x, w = dequantize(inputs["x"]), dequantize(inputs["w"])
    h = np.maximum(x @ w.T, 0)
    wanted = quantize(np.ascontiguousarray(h.T), "nvfp4", tensor_scale=inputs["ts"])
    same = outputs["qt"].codes == wanted.codes
    assert same.mean() > 0.99  # the product's sums may round differently here
    assert outputs["q"].format.name == "fp8_token"


def test_a_kernel_must_be_named() -> None:
    with pytest.raises(RequestError, match="choose one"):
        interpreted(Request(read_spec(SPEC), "sm_100a", {}, None))
