"""Operands that are some of their argument's rows, from any row on, as converter warps read them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import Problem
from fp4cc.passes.roles import find_problem
from fp4cc.passes.sizes import Sizes
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice

FORMATS = """
layout odd { coords row : 6, k : 3; atom ((2, 3), 3) : ((9, 3), 1); order k, batch, row; pad 255 }
format tall extends mxfp4 { scale e8m0 per 16 x 32; layout odd }
"""


@pytest.mark.parametrize(("x", "w", "first"), [("mxfp4", "mxfp4", 40), ("bf16", "tall", 24)])
def test_rows_from_some_row_on(compiler: Any, monkeypatch: pytest.MonkeyPatch, x: str, w: str, first: int) -> None:
    """Column n of the result is that of row first + n; there is nothing past the last row.

    Codes that TMA brings are the same in all rows, so that only what converter warps read tells the rows apart.
    """

    def shifted(kernel: Kernel, sizes: Sizes) -> Problem:
        problem = find_problem(kernel, sizes)
        (product,) = problem.products
        b = replace(product.b, first_row=first, rows=("sub", "N", first))
        return replace(problem, products=(replace(product, b=b),))

    monkeypatch.setattr(sys.modules["fp4cc.passes.lower"], "find_problem", shifted)
    depth = 64 if x == "bf16" else 256
    text = (
        f"{FORMATS}kernel k(L, M, N, K) {{ in x : {x}[L, M, K]; in w : {w}[L, N, K]; out y : f32[L, M, N]\n"
        f"y = x @ w.T }}\nschedule k on sm_100a {{ tile 128 x 64 x {depth}; cluster 1 x 1 }}\n"
    )
    lowered = compiler.lowered(text)
    files = {f"k.{ending}": data for ending, data in compiler.compile(emit(lowered)).items()}
    artifact = Artifact.build(manifest(lowered, {}, {}), files)
    inputs = random_inputs(artifact.manifest, {"L": 2, "M": 20, "N": 200, "K": 96})
    if x != "bf16":
        inputs["w"].codes[:] = inputs["w"].codes[0, 0]
    expected = artifact.load_kernel("reference")(**inputs)["y"]
    found = artifact.load_kernel(EmulatorDevice())(**inputs)["y"]
    np.testing.assert_array_equal(found[..., : 200 - first], expected[..., first:])
    np.testing.assert_array_equal(found[..., 200 - first :], 0)
