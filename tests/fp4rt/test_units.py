"""What groups of rows are multiples of, where blocks or transforms lie along the rows: found, checked and drawn."""

from __future__ import annotations

import numpy as np
import pytest

from fp4cc.ir.serialize import to_typed
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import ArgumentError, Artifact, random_inputs
from fp4rt.manifest import Manifest, Plan
from fp4rt.typed import TypedKernel
from fp4rt.units import units_of

HEAD = "kernel k(E, M, N, K) {\n in offsets : i32[E + 1]\n "
LONG = "format long { element e4m3; scale e8m0 per 1 x 64; layout linear; quantizer mx_floor }\n"
PRODUCT = HEAD + (
    "in dyt : FMT[N, M by offsets]; in xt : FMT[K, M by offsets]\n out dw : f32[E, N, K]\n dw = dyt @ xt.T\n}\n"
)
COLUMNS = (
    HEAD.replace(", N", "") + "in x : bf16[M by offsets, K]\n out q : mxfp8[K, M by offsets]\n q = quantize(x.T)\n}\n"
)
TURNED = HEAD.replace(", N", "") + (
    "in x : bf16[M by offsets, K]\n out y : f32[M by offsets, K]\n y = hadamard(x.T, over = M, size = FMT).T\n}\n"
)
ROWS = HEAD.replace(", N", "") + "in x : nvfp4_2d[M by offsets, K]\n out y : f32[M by offsets, K]\n y = x\n}\n"


def typed(text: str) -> TypedKernel:
    return to_typed(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0])


@pytest.mark.parametrize(("text", "rows"), [
    (PRODUCT.replace("FMT", "nvfp4"), 32), (LONG + PRODUCT.replace("FMT", "long"), 64), (COLUMNS, 32),
    (TURNED.replace("FMT", "16"), 32), (TURNED.replace("FMT", "128"), 128), (ROWS, None),
])  # fmt: skip
def test_units(text: str, rows: int | None) -> None:
    found = units_of(typed(text))
    assert {source: unit.rows for source, unit in found.items()} == ({} if rows is None else {"offsets": rows})
    for seed in range(5):
        offsets = random_inputs(typed(text), {"E": 5, "M": 640, "N": 8, "K": 32}, seed=seed)["offsets"]
        assert (offsets % (rows or 1) == 0).all() and offsets[-1] == 640


@pytest.mark.parametrize(("text", "offsets", "message"), [
    (PRODUCT.replace("FMT", "nvfp4"), [0, 45, 64, 96], r"offsets\[1\] = 45, where group 1 starts, is no(.|\n)*"
     r"scale blocks of 'dyt' lie along these rows(.|\n)*fill group 0 up with 19 rows of zeros"),
    (PRODUCT.replace("FMT", "nvfp4"), [0, 32, 64, 112],
     r"offsets\[3\] = 112, where group 2 ends, is not a multiple of 32(.|\n)*fill group 2 up with 16 rows"),
    (LONG + PRODUCT.replace("FMT", "long"), [0, 64, 96, 128],
     r"offsets\[2\] = 96, where group 2 starts, is not a multiple of 64(.|\n)*fill group 1 up with 32 rows"),
    (COLUMNS, [0, 32, 40, 96], r"offsets\[2\] = 40, where group 2 (.|\n)*blocks of 'q'(.|\n)*group 1 up"),
    (TURNED.replace("FMT", "64"), [0, 32, 64, 128], r"offsets\[1\] = 32, (.|\n)*runs of 64 of these rows"),
])  # fmt: skip
def test_a_group_that_starts_elsewhere_is_named(text: str, offsets: list[int], message: str) -> None:
    kernel = typed(text)
    inputs = dict(
        random_inputs(kernel, {"E": 3, "M": offsets[-1], "N": 8, "K": 32}), offsets=np.array(offsets, np.int32)
    )
    reference = Artifact(Manifest(kernel.name, "sm_90a", kernel, Plan(launches=()))).load_kernel("reference")
    with pytest.raises(ArgumentError, match=f"FP6112: {message}"):
        reference(**inputs)
