"""Lists of problems in one launch (`Kernel.many`): equal to calls in a loop, on the emulator, for both targets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fp4cc
from fp4rt import Artifact, KernelFault, compare, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.sizes import evaluate

from .conftest import Compiler

Sizes = dict[str, int]

BLACKWELL = """
kernel gemm(M, N, K) {
    in  a    : nvfp4[M, K]
    in  b    : nvfp4[N, K]
    in  bias : f32[N]
    out c    : bf16[M, N]

    c = relu(a @ b.T + bias)
}
schedule gemm on sm_100a { tile 128 x 64 x 256; cluster 1 x 1 }
"""
HOPPER = """
kernel linear(M, N, K) {
    param alpha : f32 = 1.0
    in  x : bf16[M, K]
    in  w : nvfp4[N, K]
    out y : bf16[M, N]

    y = (x @ w.T) * alpha
}
"""


def run(
    artifact: Artifact,
    sizes: list[Sizes],
    *,
    sms: int = 3,
    seed: int = 0,
    mode: Literal["immediate", "delayed"] = "delayed",
    order: Literal["strict"] | None = None,
) -> int:
    """A list on the emulator, compared with the reference problem by problem; how many launches it was."""
    kernel = artifact.load_kernel(EmulatorDevice(mode=mode, seed=seed, sms=sms, order=order))
    reference: Any = artifact.load_kernel("reference")
    problems = [random_inputs(artifact.manifest, dims, seed=seed + i) for i, dims in enumerate(sizes)]
    mine = [{name: _copied(value) for name, value in args.items()} for args in problems]
    bound = kernel.bind_many(mine)
    expected = [reference(**args) for args in problems]
    for number, (found, wanted) in enumerate(zip(bound(), expected, strict=True)):
        for difference in compare.compare_outputs(artifact.manifest, found, wanted):
            assert difference.equal, f"problem {number} of {sizes}: {difference}"
    return bound.launches


def _copied(value: Any) -> Any:
    """Memory of its own, for arguments that are written in place."""
    return value.copy() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(
    ("text", "target", "sizes"),
    [
        (BLACKWELL, "sm_100a", [(40, 96, 288), (0, 64, 64), (1, 64, 0), (130, 40, 96), (7, 0, 32)]),
        (HOPPER, "sm_90a", [(3, 136, 96), (0, 64, 64), (130, 64, 160), (1, 8, 0)]),
    ],
    ids=["sm_100a", "sm_90a"],
)
def test_a_list_is_one_launch(text: str, target: str, sizes: list[tuple[int, int, int]], compiler: Compiler) -> None:
    artifact = compiler.over_lists(text, target)
    assert run(artifact, [dict(zip("MNK", each, strict=True)) for each in sizes]) == 1
    assert run(artifact, [{"M": 0, "N": 8, "K": 32}] * 2) == 0


GEMM = "kernel k(M, N, K) {{ in a : {a}[M, K]; in b : {b}[N, K]; out c : {c}[M, N]; c = a @ b.T }}\n"
PAIRS = [
    ("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"), ("mxfp8", "mxfp8"), ("bf16", "bf16"), ("bf16", "nvfp4"), ("bf16", "mxfp4"),
    ("ds_act", "ds_weight"),
]  # fmt: skip
EPILOGUES = {
    "in place, two outputs": "kernel k(M, N, K) { param beta : f32 = 0.5; in a : nvfp4[M, K]; in b : nvfp4[N, K]\n"
    " inout c : f32[M, N]; out d : bf16[M, N]\n h = a @ b.T\n d = gelu(h)\n c = h + beta * c\n}\n",
    "gated and quantized": "kernel k(M, N, K) { in x : nvfp4[M, K]; in u : nvfp4[N, K]; in v : nvfp4[N, K]\n"
    " in ts : f32[]; out y : nvfp4[M, N]\n y = quantize(swiglu(x @ u.T, x @ v.T), tensor_scale = ts)\n}\n",
    "maxima of rows": "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out y : f32[M, N]; out m : f32[M]\n"
    " h = a @ b.T\n y = h\n m = max(abs(h), over = N)\n}\n",
    "two launches": "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out p : fp8_token[M, N]\n"
    " p = quantize(bf16(a @ b.T))\n}\n",
    "no product": "kernel k(M, K) { in x : bf16[M, K]; out y : nvfp4[M, K]; in ts : f32[]\n"
    " y = quantize(x, tensor_scale = ts)\n}\n",
    "groups": "kernel k(E, M, N, K) { in offsets : i32[E + 1]; in x : nvfp4[M by offsets, K]; in w : nvfp4[E, N, K]\n"
    " in bias : bf16[E, N]; out y : bf16[M by offsets, N]\n y = x @ w.T + bias\n}\n",
}
#: By name: a spec, its target, and how many launches a list is.
KINDS = {
    **{f"{a} x {b}, {t}": (GEMM.format(a=a, b=b, c="f32"), t, 1) for a, b in PAIRS for t in ("sm_100a", "sm_90a")},
    **{f"{name}, {t}": (x, t, 2 if name == "two launches" else 1)
       for name, x in EPILOGUES.items() for t in ("sm_100a", "sm_90a")},
    "split K, sm_100a": (BLACKWELL.replace("cluster 1 x 1", "cluster 1 x 1; split_k 3"), "sm_100a", 1),
    "a pair of CTAs, sm_100a": (
        BLACKWELL.replace("128 x 64 x 256; cluster 1", "256 x 128 x 256; cluster 2"), "sm_100a", 1,
    ),
    "split K, sm_90a": (HOPPER + "schedule linear on sm_90a { split_k 3 }\n", "sm_90a", 1),
    "few rows, sm_90a": (GEMM.format(a="bf16", b="nvfp4", c="bf16").replace("(M,", "(M = 5,"), "sm_90a", 1),
    "FP8 as it is, sm_90a": (
        "kernel k(M, N, K) { in a : e4m3[M, K]; in b : e4m3[N, K]; out c : f32[M, N]\n"
        " c = matmul(a, b.T, accumulate = fast)\n}\n", "sm_90a", 1,
    ),
}  # fmt: skip


def sizes_of(artifact: Artifact) -> st.SearchStrategy[Sizes]:
    """Sizes of a problem: rows of any number, the rest in blocks, some of them 0, as the kernel takes them."""
    manifest = artifact.manifest
    rows = st.one_of(st.just(0), st.integers(1, 40), st.integers(120, 140))
    ranges = {"M": rows, "E": st.integers(1, 3)}
    fixed = {d.name: st.just(d.value) for d in manifest.kernel.dims if d.value is not None}
    blocks = st.integers(0, 4).map(lambda n: 32 * n)
    every = st.fixed_dictionaries(
        {d.name: fixed.get(d.name) or ranges.get(d.name, blocks) for d in manifest.kernel.dims}
    )
    conditions = [c.expr for c in (*manifest.kernel.constraints, *manifest.constraints, *manifest.plan_constraints)]
    return every.filter(lambda dims: all(evaluate(expr, dims) for expr in conditions))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_lists_of_any_problems(name: str, compiler: Compiler) -> None:
    text, target, launches = KINDS[name]
    artifact = compiler.over_lists(text, target)

    @settings(max_examples=5, deadline=None, derandomize=True)
    @given(st.lists(sizes_of(artifact), max_size=5), st.integers(0, 1000), st.sampled_from([1, 3, 20]))
    def check(sizes: list[Sizes], seed: int, sms: int) -> None:
        assert run(artifact, sizes, seed=seed, sms=sms) <= launches

    check()
    unit = {d.name: d.value or {"M": 34, "E": 2}.get(d.name, 128) for d in artifact.manifest.kernel.dims}
    assert run(artifact, [unit, {**unit, "N": 64}] if "N" in unit else [unit, unit], order="strict") == launches


@pytest.mark.slow
def test_maps_in_memory_need_a_fence(compiler: Compiler) -> None:
    """By the letter of the PTX ISA; without an order nothing shows it."""
    artifact = compiler.over_lists(BLACKWELL)
    sizes = [{"M": 5, "N": 32, "K": 96}, {"M": 9, "N": 16, "K": 32}]
    files = {name: re.sub(rb"fence\.proxy\.tensormap[^;]*;", b"", data) for name, data in artifact.files.items()}
    assert files != artifact.files
    broken = Artifact.build(artifact.manifest, files)
    assert run(broken, sizes) == 1
    with pytest.raises(KernelFault, match=r"\[host-map\]"):
        run(broken, sizes, order="strict")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_bytes_around_outputs_stay(target: str, compiler: Compiler) -> None:
    """Outputs side by side in one array, with rows between them."""
    artifact = compiler.over_lists(GEMM.format(a="nvfp4", b="nvfp4", c="f32"), target)
    kernel = artifact.load_kernel(EmulatorDevice(mode="delayed", sms=4))
    sizes = [{"M": m, "N": 72, "K": 64} for m in (5, 0, 131, 64)]
    problems = [random_inputs(artifact.manifest, dims, seed=i) for i, dims in enumerate(sizes)]
    held = np.full((sum(dims["M"] + 3 for dims in sizes), 72), np.float32(-77.0))
    starts = [sum(d["M"] + 3 for d in sizes[:i]) for i in range(len(sizes))]
    out = [{"c": held[start : start + dims["M"]]} for start, dims in zip(starts, sizes, strict=True)]
    results: list[Any] = kernel.many(problems, out=out)
    reference: Any = artifact.load_kernel("reference")
    wanted = np.full_like(held, -77.0)
    for start, dims, args, result, own in zip(starts, sizes, problems, results, out, strict=True):
        wanted[start : start + dims["M"]] = reference(**args)["c"]
        assert result["c"] is own["c"]
    assert np.array_equal(held, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
def test_a_compiled_list_and_calls(target: str, tmp_path: Path) -> None:
    """`fp4cc.compile(many=True)`: one artifact for both, saved and loaded, with a launch for each plan asked for."""
    text = GEMM.format(a="bf16", b="nvfp4", c="bf16")
    small = text + f"schedule k on {target} when M <= 16 {{ stages auto }}\nschedule k on {target} {{ stages auto }}\n"
    artifact = Artifact.load(fp4cc.compile(text, target=target, many=True).save(tmp_path))
    assert artifact.manifest.modules() == ("k", "k_many")
    two = fp4cc.compile(small, target=target, many=True)
    for made, launches in ((artifact, 1), (two, 2)):
        sizes = [{"M": m, "N": 136, "K": 160} for m in (3, 200, 16, 0)]
        assert run(made, sizes) == launches
        kernel: Any = made.load_kernel("emulator")
        problems = [random_inputs(made.manifest, dims, seed=9) for dims in sizes]
        for found, args in zip(kernel.many(problems), problems, strict=True):
            assert np.array_equal(found["c"].view(np.uint16), kernel(**args)["c"].view(np.uint16))
