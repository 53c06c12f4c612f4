"""Operands that converter warps dequantize to 16 bits on the way in: W4A16, W4A8 and their like, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from fp4num import Quantized, decode, dequantize, encode, pack
from fp4num.elements import element
from fp4rt import random_inputs

Check = Callable[..., None]
Schedule = tuple[int, int, tuple[int, int]]

#: Scales of other sizes, types and places than the tensor core takes. Padding of 255 is a NaN as either type of scale.
FORMATS = """
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order k, batch, row; pad 255 }
format linear extends nvfp4 { layout linear }
format far    extends mxfp4 { layout odd }
format tall   extends nvfp4 { scale e4m3 per 16 x 16 }
format half   extends nvfp4 { scale e4m3 per 1 x 32; layout odd }
format eighth extends nvfp4 { scale e4m3 per 1 x 8; layout linear }
format wide   extends mxfp6_e3m2 { scale e8m0 per 1 x 128; layout linear }
format block  extends mxfp6_e2m3 { scale e8m0 per 64 x 64; layout odd }
format row    extends mxfp4 { scale e8m0 per 1 x all; layout linear }
format fine8  { element e4m3; scale e4m3 per 1 x 16; layout blocked_8x4; quantizer nvfp4_ct; tensor_scale f32 divides }
format coarse { element e5m2; scale e4m3 per 1 x 32; layout linear; quantizer nvfp4_torchao }
"""
STANDARD = ["nvfp4", "mxfp4", "mxfp6_e3m2", "mxfp6_e2m3"]
OTHERS = ["linear", "far", "tall", "half", "eighth", "wide", "block", "row", "fine8", "coarse"]

SCHEDULES: list[Schedule] = [
    (128, 128, (1, 1)),
    (256, 64, (2, 1)),
    (128, 192, (2, 1)),
    (256, 192, (2, 2)),
    (128, 64, (1, 2)),
    (256, 256, (2, 1)),
    (128, 256, (1, 1)),
    (256, 128, (4, 2)),
]
MODES = [{}, {"mode": "delayed", "seed": 1}, {"mode": "delayed", "seed": 2}]


def kernel(dims: str, args: str, value: str, schedule: Schedule, depth: int = 64, more: str = "") -> str:
    """A kernel with the formats of this file and a schedule."""
    m, n, cluster = schedule
    fields = f"tile {m} x {n} x {depth}; cluster {cluster[0]} x {cluster[1]}; {more}"
    return f"{FORMATS}kernel k({dims}) {{ {args}; y = {value} }}\nschedule k on sm_100a {{ {fields} }}\n"


def gemm(x: str, w: str, schedule: Schedule, more: str = "") -> str:
    """`y = x @ w.T`."""
    return kernel("M, N, K", f"in x : {x}[M, K]; in w : {w}[N, K]; out y : f32[M, N]", "x @ w.T", schedule, 64, more)


#: Every element, type of scale and kind of plain operand, on either side; the other pairs are in the slow matrix.
PAIRS = [
    ("bf16", "nvfp4"),
    ("far", "e4m3"),
    ("f16", "eighth"),
    ("bf16", "mxfp6_e3m2"),
    ("block", "bf16"),
    ("e4m3", "fine8"),
    ("bf16", "e5m2"),
]


@pytest.mark.parametrize("index", range(len(PAIRS)), ids=["-".join(pair) for pair in PAIRS])
def test_pairs(check: Check, index: int) -> None:
    """Residues in every size; one cluster takes all tiles, so that the ring wraps for every team."""
    schedule, (x, w) = SCHEDULES[index], PAIRS[index]
    k = 384 if "block" in (x, w) else 352
    sms = schedule[2][0] * schedule[2][1]
    check(gemm(x, w, schedule), M=schedule[0] + 9, N=72, K=k, sms=sms, mode="delayed", seed=index)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SCHEDULES)))
@pytest.mark.parametrize(
    ("x", "w"), [*product(["bf16", "e4m3"], [*STANDARD, *OTHERS]), ("f16", "nvfp4"), ("half", "f16")]
)
def test_every_pair_with_every_schedule(check: Check, x: str, w: str, number: int) -> None:
    m, n, cluster = SCHEDULES[number]
    mode = MODES[(number + len(x) + len(w)) % len(MODES)]
    check(gemm(x, w, SCHEDULES[number]), M=m - 60, N=n + 8, K=384, sms=cluster[0] * cluster[1], **mode)


@pytest.mark.parametrize("stages", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_short_rings_and_teams_of_several_warps(check: Check, stages: int) -> None:
    text = gemm("e4m3", "half", (256, 192, (2, 1)), f"stages {stages}")
    check(text, M=140, N=72, K=288, sms=2, mode="delayed", seed=stages)


def test_no_k_gives_zeros(check: Check) -> None:
    check(gemm("bf16", "nvfp4", SCHEDULES[1]), M=130, N=100, K=0, sms=2)


def test_gated_and_quantized(check: Check) -> None:
    args = "in x : bf16[M, K]; in g : nvfp4[N, K]; in u : linear[N, K]; in s : f32[]; out y : nvfp4[M, N]"
    text = kernel("M, N, K", args, "quantize(bf16(swiglu(x @ g.T, x @ u.T)), tensor_scale = s)", SCHEDULES[1])
    check(text, M=140, N=96, K=352, sms=2)


def test_beside_a_native_product_with_scales_that_are_relaid(check: Check) -> None:
    """Warps of a team share both: the rows of one stage, the scale atoms of the next."""
    args = "in x : bf16[M, K]; in w : nvfp4[N, K]; in q : linear[M, J]; in v : linear[N, J]; out y : f32[M, N]"
    text = kernel("M, N, K, J", args, "x @ w.T + q @ v.T", (256, 64, (2, 2)), 64, "stages 2")
    check(text, M=140, N=136, K=224, J=544, sms=4, mode="delayed", seed=1)


def test_batches_that_share_the_weights(check: Check) -> None:
    args = "in x : bf16[L, M, K]; in w : far[L, N, K]; in v : linear[N, K]; out y : f32[L, M, N]"
    check(kernel("L, M, N, K", args, "relu(x @ w.T) + x @ v.T", SCHEDULES[4]), L=3, M=40, N=72, K=160, sms=2)


def test_an_operand_on_both_sides(check: Check) -> None:
    """The same argument is dequantized as A and as B of two products, to different types."""
    args = "in q : half[M, K]; in z : half[J, K]; in h : f16[J, K]; in b : bf16[J, K]; out y : f32[M, J]"
    text = kernel("M, K, J", args, "q @ h.T - q @ b.T + b_only", SCHEDULES[0]).replace(" + b_only", "")
    check(text, M=130, J=72, K=160, sms=1)


def test_row_scales_are_multiplied_in_afterwards(check: Check) -> None:
    """fp8_token on either side, of one product and of several; equal, because random inputs have exact sums."""
    args = "in x : fp8_token[L, M, K]; in g : fp8_token[L, N, K]; in u : linear[N, K]; out y : f32[L, M, N]"
    text = kernel("L, M, N, K", args, "relu(x @ g.T) - x @ u.T", SCHEDULES[1], depth=128)
    check(text, L=2, M=130, N=72, K=160, sms=2)
    args = "in x : nvfp4[M, K]; in w : fp8_token[N, K]; in x_scales : f32[M]; out y : f32[M, N]"
    check(kernel("M, N, K", args, "x @ w.T * x_scales", SCHEDULES[0]), M=130, N=72, K=160, sms=1)


def test_row_scales_of_any_value_are_rounded_once(compiler: Any) -> None:
    """The sums of the codes are exact here, and the scale is multiplied in once: the product is the reference's."""
    args = "in x : fp8_token[M, K]; in w : nvfp4[N, K]; out y : f32[M, N]"
    artifact = compiler.artifact(kernel("M, N, K", args, "x @ w.T", SCHEDULES[0]))
    inputs = random_inputs(artifact.manifest, {"M": 40, "N": 72, "K": 160})
    inputs["x"].scales[:] = np.random.default_rng(0).uniform(0.1, 3.0, inputs["x"].scales.shape)
    found, expected = (artifact.load_kernel(device)(**inputs)["y"] for device in ("emulator", "reference"))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(np.frexp(expected)[0])) > 500  # full mantissas


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ("bf16", "nvfp4"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [("f16", "nvfp4"), *(("bf16", w) for w in ("fine8", "coarse", *STANDARD[1:]))]
        ),
    ],
)
def test_every_code_times_every_scale_is_exact(compiler: Any, x: str, w: str) -> None:
    """The identity times a weight is the weight: row n has scale n, and every code along K.

    No scales with which a product is infinite or NaN: it would fill its row's sums.
    """
    artifact = compiler.artifact(gemm(x, w, SCHEDULES[0]))
    fmt = artifact.manifest.kernel.arg("w").format
    codes, k = np.arange(1 << fmt.bits, dtype=np.uint8), max(64, 1 << fmt.bits)
    codes = codes[np.isfinite(decode(codes, fmt.element))]
    scales = np.arange(0x7F) if fmt.scale == "e4m3" else np.arange(0xFF)
    with np.errstate(over="ignore"):
        largest = decode(scales.astype(np.uint8), fmt.scale) * np.float32(element(fmt.element).max)
    scales = scales[np.isfinite(largest)]
    rows = pack(np.resize(codes, (len(scales), k)), fmt.bits)
    grid = np.broadcast_to(scales[None, :, None], fmt.scale_grid((len(scales), k))).astype(np.uint8)
    tensor_scale = None if fmt.tensor_scale is None else np.float32(1)
    weight = Quantized(rows, fmt.layout.to_buffer(grid), tensor_scale, fmt, (len(scales), k))
    identity = encode(np.eye(k, dtype=np.float32), x)
    inputs = {"x": identity.view(np.float16) if x == "f16" else identity, "w": weight}
    found = artifact.load_kernel("emulator")(**inputs)["y"]
    np.testing.assert_array_equal(found, dequantize(weight).T)
