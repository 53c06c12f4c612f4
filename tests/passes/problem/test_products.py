"""Several products in one kernel: what shares a mainloop and an accumulator, and how it fits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from fp4cc.ir.lowered import LoweredKernel, Tcgen05

Lower = Callable[..., LoweredKernel]

ARGS = """
    in x : %s[M, K]; in w : mxfp4[N, K]; in v : %s[N, K]; in u : mxfp4[M, J]; in t : mxfp4[N, J]
    in xr : bf16[M, R]; in up : bf16[N, R]; out y : f32[M, N]
"""


def products(value: str, x: str = "mxfp4", v: str = "mxfp4", fields: str = "") -> str:
    """A kernel of products of some of these operands."""
    tail = f"schedule k on sm_100a {{ {fields} }}\n" if fields else ""
    return f"kernel k(M, N, K, J, R) {{ {ARGS % (x, v)} y = {value} }}\n{tail}"


@pytest.mark.parametrize(
    ("value", "mainloops", "slots"),
    [
        ("x @ w.T", [1], [0]),
        ("relu(x @ w.T) * (x @ v.T)", [2], [0, 1]),
        ("x @ w.T + x @ v.T", [2], [0, 0]),
        ("x @ w.T + u @ t.T + xr @ up.T", [1, 1, 1], [0, 0, 0]),
        ("x @ w.T - u @ t.T", [1, 1], [0, 1]),
        ("x @ w.T + 2.0 * (u @ t.T)", [1, 1], [0, 1]),
        ("(x @ w.T + u @ t.T) * (x @ v.T)", [2, 1], [0, 0, 1]),
        ("xr @ up.T + x @ w.T", [1, 1], [0, 0]),
    ],
)
def test_what_shares_loads_and_accumulators(
    lower_text: Lower, value: str, mainloops: list[int], slots: list[int]
) -> None:
    lowered = lower_text(products(value))
    assert [len(m.products) for m in lowered.mainloops] == mainloops
    assert sorted(p.slot for p in lowered.products.products) == sorted(slots)
    assert len(lowered.products.accumulators) == max(slots) + 1


def test_operands_that_lie_otherwise_in_shared_memory_are_loaded_twice(lower_text: Lower) -> None:
    """mxfp4 stays packed for another mxfp4 and is unpacked for mxfp8: two mainloops, each with maps of its own."""
    lowered = lower_text(products("relu(x @ w.T) * (x @ v.T)", v="mxfp8_e4m3"))
    assert [mmas[0].kind for mmas in lowered.engine_as(Tcgen05).mmas] == ["mxf4", "mxf8f6f4"]
    names = [tensor_map.name for tensor_map in lowered.tensor_maps]
    assert {"x_codes", "x_codes2", "x_scales", "x_scales2"} <= set(names)
    assert len(set(names)) == len(names)


def test_tensor_scales_keep_products_apart(lower_text: Lower) -> None:
    text = "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; in c : nvfp4[N, K]; out y : f32[M, N]\n"
    assert len(lower_text(text + "y = a @ b.T + a @ c.T }").products.accumulators) == 2


@pytest.mark.parametrize("n", [64, 128, 192])
@pytest.mark.parametrize("m", [128, 256])
def test_memory_holds_everything_once(lower_text: Lower, m: int, n: int) -> None:
    fields = f"tile {m} x {n} x 256; cluster 2 x 1"
    lowered = lower_text(products("relu(x @ w.T) * (x @ v.T)", fields=fields))
    tmem, (mainloop,) = lowered.engine_as(Tcgen05).tmem, lowered.mainloops
    assert tmem.acc_buffers == (2 if n == 64 else 1)
    assert tmem.acc_stride == 2 * n
    assert not tmem.overlapped(n)
    atoms = lowered.engine_as(Tcgen05).mma.atoms
    starts = [tmem.acc_buffers * 2 * n, tmem.sfa, tmem.sfb, tmem.sfb + tmem.sfb_stride, tmem.end]
    wanted = [0, atoms * tmem.sfa_columns, atoms * tmem.sfb_columns, atoms * tmem.sfb_columns]
    assert all(b - a >= size for (a, b), size in zip(pairwise(starts), wanted, strict=True))
    assert tmem.end <= tmem.columns <= 512
    stage = sum(lowered.smem.buffer(load.buffer).bytes for load in mainloop.loads)
    assert mainloop.tx_bytes == stage * lowered.engine_as(Tcgen05).mma.cta_group
    assert {load.buffer for load in mainloop.loads} == {
        "a_smem", "b_smem", "b2_smem", "sfa_smem", "sfb_smem", "sfb2_smem",
    }  # fmt: skip


def test_each_k_has_its_constraints(lower_text: Lower) -> None:
    """K must be positive: each product's first step writes its accumulator."""
    lowered = lower_text(products("x @ w.T + xr @ up.T"))
    assert {c.text for c in lowered.constraints} == {"K % 32 == 0", "K > 0", "R % 8 == 0", "R > 0"}
    assert not any("> 0" in c.text for c in lower_text(products("x @ w.T")).constraints)


@pytest.mark.parametrize(("fmt", "word"), [("bf16", 0x08200490), ("f16", 0x08200010)])
def test_the_descriptor_of_plain_operands(lower_text: Lower, fmt: str, word: int) -> None:
    """PTX ISA, instruction descriptor of kind::f16: D is f32 (bit 4), A and B at 7, 10, N / 8 at 17, M / 16 at 24."""
    text = f"kernel k(M, N, K) {{ in a : {fmt}[M, K]; in b : {fmt}[N, K]; out y : f32[M, N]; y = a @ b.T }}\n"
    lowered = lower_text(text + "schedule k on sm_100a { tile 128 x 128 x 64; cluster 1 x 1 }")
    assert lowered.engine_as(Tcgen05).mma.descriptor == word
    assert {b.name for b in lowered.smem.buffers} & {"sfa_smem", "sfb_smem"} == set()
