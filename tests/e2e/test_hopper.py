"""The same specs for Hopper: operands converted to bf16 or f16, and multiplied by wgmma, equal to the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Check = Callable[..., None]

FORMATS = [
    ("nvfp4", "nvfp4"),
    ("mxfp4", "mxfp4"),
    ("mxfp8_e4m3", "mxfp8_e5m2"),
    ("nvfp4", "mxfp8_e4m3"),
    ("mxfp8_e5m2", "mxfp4"),
    ("mxfp6_e3m2", "nvfp4"),
    # Beside a plain operand, and both plain.
    ("f16", "nvfp4"),
    ("bf16", "bf16"),
    ("e4m3", "e5m2"),
]
#: Formats that other quick pairs have on the same side.
MIXED = {("mxfp4", "mxfp4"), ("nvfp4", "mxfp8_e4m3"), ("e4m3", "e5m2")}
BF16 = ("bf16", "e4m3", "e5m2", "nvfp4", "nvfp4_2d", "mxfp4", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp8_e4m3", "mxfp8_e5m2")
F16 = ("f16", "e4m3", "e5m2", "nvfp4", "nvfp6_e3m2", "nvfp6_e2m3")
#: Formats whose products by e4m3 scales f16 holds.
NVFP6 = """
format nvfp6_e3m2 extends nvfp4 { element e3m2 pack low_first }
format nvfp6_e2m3 extends nvfp4 { element e2m3 pack low_first }
"""


def gemm(a: str, b: str, out: str = "bf16", schedule: str = "", lead: str = "") -> str:
    args = f"in a : {a}[{lead}M, K]; in b : {b}[{lead}N, K]; out c : {out}[{lead}M, N]"
    tail = f"\nschedule gemm on sm_90a {{ {schedule} }}" if schedule else ""
    return f"kernel gemm({lead}M, N, K) {{ {args}; c = a @ b.T }}{tail}\n"


@pytest.mark.parametrize(
    ("a", "b"),
    [pytest.param(*pair, marks=pytest.mark.slow if pair in MIXED else ()) for pair in FORMATS],
    ids=lambda name: name,
)
def test_formats(check: Check, a: str, b: str) -> None:
    check(gemm(a, b), "sm_90a", M=200, N=72, K=320 if "mxfp6" in a else 288)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "a", "b"), [
    *(("bf16", a, b) for a in BF16 for b in BF16 if not ("mxfp8" in a + b and {a, b} & {"bf16", "e4m3", "e5m2"})),
    *(("f16", a, b) for a in F16 for b in F16 if "f16" in (a, b)),
])  # fmt: skip
def test_all_formats(check: Check, kind: str, a: str, b: str) -> None:
    check(NVFP6 + gemm(a, b, "f32"), "sm_90a", M=140, N=136, K=320, seed=1)
    check(NVFP6 + gemm(a, b, "f32"), "sm_90a", M=140, N=136, K=320, seed=2, mode="delayed", sms=2)


@pytest.mark.parametrize(
    ("cluster", "mode"),
    [
        ("1 x 1", "immediate"),
        ("2 x 1", "delayed"),
        pytest.param("2 x 1", "immediate", marks=pytest.mark.slow),
        pytest.param("1 x 1", "delayed", marks=pytest.mark.slow),
    ],
)
def test_clusters_and_delays(check: Check, cluster: str, mode: str) -> None:
    text = gemm("nvfp4", "nvfp4", "f16", f"cluster {cluster}; stages 2")
    check(text, "sm_90a", mode=mode, sms=4, M=260, N=136, K=288)


def test_operands_where_tma_puts_them(check: Check) -> None:
    """wgmma reads them in the ring, so a stage is free only when its product is done."""
    text = gemm("bf16", "nvfp4", "f16", "cluster 2 x 1; stages 2")
    check(text, "sm_90a", mode="delayed", sms=2, M=300, N=72, K=224)


@pytest.mark.parametrize(
    "shape", [(1, 1, 32), (129, 130, 64), (5, 7, 0), (0, 8, 32)], ids=lambda s: "x".join(map(str, s))
)
@pytest.mark.parametrize("a", ["nvfp4", "bf16"])
def test_residues(check: Check, a: str, shape: tuple[int, int, int]) -> None:
    check(gemm(a, "nvfp4", "f32"), "sm_90a", **dict(zip("MNK", shape, strict=True)))


def test_batches_and_an_epilogue(check: Check) -> None:
    text = """kernel gemm(L, M, N, K) {
        in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; in bias : bf16[N]; in r : bf16[L, M, N]; in ts : f32[]
        out y : bf16[L, M, N]; out q : nvfp4[L, M, N]
        h = gelu(a @ b.T + bias) + r
        y = h
        q = quantize(h, tensor_scale = ts)
    }"""
    check(text, "sm_90a", L=3, M=70, N=96, K=128)


def test_random_numbers_of_batches(check: Check) -> None:
    """By logical index, which takes the number of rows where nothing else does."""
    text = """kernel dropout(L, M, N, K) {
        in a : nvfp4[L, M, K]; in b : nvfp4[N, K]; in rng : u64[2]; out c : f32[L, M, N]
        c = where(uniform(rng, stream = 1) >= 0.25, a @ b.T, 0)
    }"""
    check(text, "sm_90a", L=2, M=70, N=72, K=96)
