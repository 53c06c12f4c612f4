"""Mistakes put into an emitted kernel on purpose: each must be caught by running it.

A mutation is a replacement in the text of the kernel file. It counts as caught when the emulator reports a fault or a
deadlock, or the result differs from the reference. What only the proof of order finds is in test_order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4rt import Artifact, KernelFault

Run = Callable[..., Any]


@dataclass(frozen=True)
class Mutation:
    """Replace the first (or `which`-th) `old` of the kernel file with `new`.

    `mode`: when copies complete; `k`: the K of the run; `launch`: which of the files of a kernel in several launches;
    `ordered`: it breaks the order of accesses, which is proved whether or not a wrong value comes of it.
    """

    name: str
    old: str
    new: str
    which: int = 0
    mode: str = "immediate"
    k: int = 800
    launch: int = 0
    ordered: bool = False


PAIR = "tile 256 x 128 x 256; cluster 4 x 2"
SINGLE = "tile 128 x 64 x 256; cluster 1 x 1"
WIDE = "tile 128 x 256 x 256; cluster 1 x 1"
SERIAL = "tile 128 x 256 x 256; cluster 1 x 1; accumulators 1"
DELAYED = "delayed"
FENCE = "prims.fence_proxy(prims.Proxy.ASYNC_SHARED, space=prims.SharedSpace.shared_cta)"

IN_SINGLE = [
    Mutation("tile of A from the wrong row", "(k_tile * TILE_K, m0)", "(k_tile * TILE_K, m0 + 1)"),
    Mutation("tile of B from the wrong column", "(k_tile * TILE_K, n0)", "(k_tile * TILE_K, m0)"),
    Mutation("off by one in K", "(k_tile * TILE_K, m0)", "((k_tile + 1) * TILE_K, m0)"),
    Mutation("one step of K too few", "cutlass.range(k_tiles, unroll=1)", "cutlass.range(k_tiles - 1, unroll=1)", 1),
    Mutation("scales of the next atom", "(0, m0 // 128, k_tile * 4)", "(0, m0 // 128, k_tile * 4 + 1)"),
    Mutation("scales of another row of tiles", "(0, m0 // 128,", "(0, m0 // 128 + 1,"),
    Mutation("wrong scale column for A", "tmem + (SFA_COLUMN + 4 * i)", "tmem + (SFA_COLUMN + 4 * i + 1)", 1),
    Mutation("wrong scale column for B", "tmem + (sfb_column + 4 * i)", "tmem + (SFB_COLUMN + 4 * i)"),
    Mutation("scales of B swapped between steps", "tmem + (sfb_column + 4 * i)", "tmem + (sfb_column + 4 * (3 - i))"),
    Mutation(
        "descriptor: wrong step along K",
        "a_desc + (stage * A_BYTES + 32 * i) // 16",
        "a_desc + (stage * A_BYTES + 16 * i) // 16",
    ),
    Mutation("descriptor: wrong stride", "stride_byte_offset=1024", "stride_byte_offset=512"),
    Mutation("descriptor: wrong swizzle", "Tcgen05SmemSwizzle.SWIZZLE_128B", "Tcgen05SmemSwizzle.SWIZZLE_64B"),
    Mutation("instruction: wrong N", "INSTRUCTION = 0x", "INSTRUCTION = -0x20000 + 0x"),
    Mutation("instruction: E8M0 scales", "INSTRUCTION = 0x", "INSTRUCTION = 0x800000 + 0x"),
    Mutation("accumulates over the last tile", "enable_input_d=(k_tile != 0) | (i != 0)", "enable_input_d=True"),
    Mutation("forgets earlier steps", "enable_input_d=(k_tile != 0) | (i != 0)", "enable_input_d=i != 0"),
    Mutation("too few bytes expected", "STAGE_TX_BYTES)", "STAGE_TX_BYTES - 512)"),
    Mutation("too many bytes expected", "STAGE_TX_BYTES)", "STAGE_TX_BYTES + 512)"),
    Mutation("MMA does not wait for data", "wait(ab_full.subview(stage), parity)", "pass", mode=DELAYED),
    Mutation("load does not wait for a free stage", "wait(ab_empty.subview(stage), parity)", "pass", mode=DELAYED),
    Mutation(
        "MMA does not wait for the epilogue", "wait(acc_empty.subview(acc_stage), acc_parity)", "pass", mode=DELAYED
    ),
    Mutation(
        "epilogue does not wait for the MMA", "wait(acc_full.subview(acc_stage), acc_parity)", "pass", mode=DELAYED
    ),
    Mutation("wrong parity", "parity = cutlass.Int32(1)", "parity = cutlass.Int32(0)"),
    Mutation("parity is not flipped", "parity ^= 1", "parity ^= 0"),
    Mutation("accumulator never released", "prims.mbarrier_arrive(acc_empty.subview(acc_stage), relaxed=True)", "pass"),
    Mutation("stage never released", "prims.tcgen05_commit(ab_empty.subview(stage), group=CTA_GROUP)", "pass"),
    Mutation("wrong quarter of tensor memory", "warp << 21", "(3 - warp) << 21"),
    Mutation("wrong sub-tile", "source + 32 * subtile", "source + 32 * (subtile ^ 1)"),
    Mutation("wrong row of tiles", "row = within // width", "row = within % width"),
    Mutation("a tile left out", "cutlass.range(first_tile, tiles,", "cutlass.range(first_tile + 1, tiles,"),
]
IN_PAIR = [
    Mutation("multicast of A to the wrong CTAs", "multicast_mask=0b10001 << cta_m", "multicast_mask=0b11"),
    Mutation("multicast of A to too few CTAs", "multicast_mask=0b10001 << cta_m", "multicast_mask=0b1 << cta_m"),
    Mutation(
        "multicast of B ignores the half", "0b101 << (cta_n * CLUSTER_M + cta_m % 2)", "0b101 << (cta_n * CLUSTER_M)"
    ),
    Mutation("both CTAs load the same half of B", "n0 + cta_m % 2 * 64", "n0"),
    Mutation(
        "slice of A at the wrong place",
        "a_smem.subview(stage * A_BYTES + cta_n * 8192)",
        "a_smem.subview(stage * A_BYTES)",
    ),
    Mutation("stage freed for one CTA only", "0b110011 << cta_m | 0b1111 << (cta_n * CLUSTER_M)", "0b1 << rank"),
    Mutation("second CTA never told of the result", "multicast_mask=0b11 << rank", "multicast_mask=0b1 << rank"),
    Mutation(
        "accumulator released at this CTA, not its leader",
        "prims.mapa(acc_empty.subview(acc_stage), rank - rank % 2)",
        "prims.mapa(acc_empty.subview(acc_stage), rank)",
    ),
    Mutation(
        "one arrival too many is awaited",
        "mbarrier_init(acc_empty.subview(i), 8)",
        "mbarrier_init(acc_empty.subview(i), 9)",
    ),
]
IN_WIDE = [
    Mutation("accumulators overlap more than planned", "ACC_STRIDE = 208", "ACC_STRIDE = 160", k=32, ordered=True),
    Mutation("MMA does not wait for the shared columns", "wait(acc_empty, acc_parity)", "pass", mode=DELAYED, k=32),
    Mutation("shared columns read last", "step if buffer == 1", "step if buffer == 0", mode=DELAYED, k=32),
]
IN_SERIAL = [
    Mutation("accumulator released too early", "subtile == 7", "subtile == 0", mode=DELAYED),
]
QUANTIZED = "tile 128 x 128 x 256; cluster 1 x 1 "
IN_QUANTIZED = [
    Mutation("swapped nibbles", "e2m1x2.f32 a, $2, $1", "e2m1x2.f32 a, $1, $2"),
    Mutation("swapped bytes of codes", "{a, b, c, d}", "{b, a, c, d}"),
    Mutation("scale bytes in other rows' places", "(row >> 5 & 3) * 4 + (k & 3)", "(k & 3) * 4 + (row >> 5 & 3)"),
    Mutation("padding of the scales not written", "k < ((blocks + 3) >> 2) * 4", "k < blocks"),
    Mutation("scales of the padding not zero", "both(row < rows, k < blocks), scale, 0", "row < rows, scale, 1"),
    Mutation("wrong factor of the block scale", "mul(tensor_encode, 0.16666667)", "mul(tensor_encode, 0.1667)"),
]
HALVES = "tile 128 x 192 x 256; cluster 1 x 1"
IN_HALVES = [
    Mutation("second half of B from the first's rows", "(k_tile * TILE_K, n0 + n_size)", "(k_tile * TILE_K, n0)"),
    Mutation(
        "second half within the wrong half of a scale atom",
        "(n0 + n_size) // 64",
        "n0 // 64",
    ),
    Mutation("second half's bias is the first's", "n0 + staged_column + n_size", "n0 + staged_column"),
]
TURNS = "tile 128 x 192 x 256; cluster 1 x 1; stages 2"
IN_TURNS = [
    Mutation("halves that take turns in other groups", "], 16, 0)", "], 8, 0)"),
]
RELAID = "tile 128 x 128 x 256; cluster 1 x 1;"
IN_RELAID = [
    Mutation("no proxy fence after scales", FENCE, "pass"),
    Mutation("converters do not wait for a free stage", "wait(ab_empty.subview(stage), parity)", "pass", 2, DELAYED),
    Mutation("MMA does not count the converters", "(ab_full.subview(i), 2)", "(ab_full.subview(i), 1)"),
    Mutation("converters have another parity", "Int32(1)\n        for tile", "Int32(0)\n        for tile"),
    Mutation("steps are counted anew in each tile", "k_tile -= k_tiles", "k_tile = warp - FIRST_CONVERTER", k=704),
    Mutation("scales of the next row", "row = first_row + further + lane", "row = first_row + further + lane + 1"),
    Mutation("scales past the end of a row are read", "b_blocks - k, 0", "16, 0"),
]  # fmt: skip
DEQUANTIZED = "tile 256 x 64 x 64; cluster 2 x 1"
IN_DEQUANTIZED = [
    Mutation("wrong chunk of the swizzle", "row & 7 ^ part * 4 + j", "part * 4 + j"),
    Mutation("one scale for two blocks", "scale[j >> 1]", "scale[0]"),
    Mutation("codes of a word in another order", "word_asm(text % i,", "word_asm(text % (3 - i),"),
    Mutation("codes past the last row are read", "both(row < b_rows, k < k_size)", "k < k_size"),
    Mutation("both CTAs dequantize the same half of B", "n0 + cta_m % 2 * 32 + lane", "n0 + lane"),
    Mutation(
        "converters arrive at their own CTA, not the leader",
        "prims.mapa(ab_full.subview(stage), rank - rank % 2)",
        "prims.mapa(ab_full.subview(stage), rank)",
    ),
]
PANELS = "tile 128 x 128 x 256; cluster 1 x 1; stages 3"
IN_PANELS = [
    Mutation("factor of the panel's first block", ">> 5 & -2)", ">> 5 & -4)"),
    Mutation(
        "measured with the blocks of other rows",
        "where(row_valid, c_amax, 0.0), 2)",
        "where(row_valid, c_amax, 0.0), 4)",
    ),
    Mutation("rows past the last are measured", "where(row_valid, c_amax, 0.0)", "c_amax"),
    Mutation(
        "joined before all warps have measured",
        "shared_store_f32(slots + 4 * warp, x)\n    prims.barrier_cta_sync(1, thread_count=128)",
        "shared_store_f32(slots + 4 * warp, x)",
        mode=DELAYED,
    ),
    Mutation("half of a block measured", "thread), 512, 2", "thread), 512, 1"),
    Mutation("halves of a transform taken for each other", ", 128, column >> 5, 2)", ", 128, (column >> 5) + 1, 2)", 1),
    Mutation("signs of other points", "column & 63", "column & 31"),
]
CHOICES = "tile 128 x 128 x 256; cluster 1 x 1; stages 4"
IN_CHOICES = [
    Mutation("codes of the scale not taken", "where(better, f, s)", "where(better, s, f)"),
    Mutation("errors of one scale compared", "four, scale_2, ", "four, scale, "),
    Mutation("scale of the choice not taken", "where_int(better, scale_2, scale)", "scale"),
    Mutation("random bytes of the group before", "n_size + column) >> 4, 2)", "n_size + column) >> 4 ^ 1, 2)"),
    Mutation("random bytes of another stream", "rng_ptr_words, 1, ", "rng_ptr_words, 0, "),
]
TOKENS = "tile 128 x 128 x 256; cluster 1 x 1; stages 2"
IN_TOKENS = [
    Mutation("maxima of another row", "global_address(p_amax_ptr, row, 4)", "global_address(p_amax_ptr, row ^ 1, 4)"),
    Mutation("maximum of the last sub-tile", "= maximum(p_amax_part, ", "= maximum(Float32(0.0), "),
    Mutation("columns past the last are measured", "within(p_values_values, n_size - column)", "p_values_values"),
    Mutation("second launch reads another row's maximum", "global_address(p_amax_ptr, row, 4)",
             "global_address(p_amax_ptr, m0, 4)", launch=1),
    Mutation("second launch quantizes other columns", "first_column = n0", "first_column = 0", launch=1),
]  # fmt: skip
#: What the kernels of other groups than the first compute, and their N.
KERNELS = {
    QUANTIZED: ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; in s : f32[]; out c : nvfp4[M, N]",
                "c = quantize(a @ b.T, tensor_scale = s)", 592),
    HALVES: ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; in v : bf16[N]; out c : f32[M, F]",
             "g, u = unzip(a @ b.T + v, N -> F, group = F); c = relu(g) * u", 640),
    TURNS: ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, F]",
            "g, u = unzip(a @ b.T, N -> F, group = 16); c = relu(g) * u", 640),
    RELAID: ("in a : nvfp4[M, K]; in b : linear[N, K]; out c : f32[M, N]", "c = a @ b.T", 600),
    DEQUANTIZED: ("in a : bf16[M, K]; in b : linear[N, K]; out c : f32[M, N]", "c = a @ b.T", 200),
    PANELS: ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; in s : f32[64]; out c : square[M, N]; out d : ds_act[M, N]",
             "h = hadamard(1 / (1 + abs(a @ b.T)), over = N, size = 64, signs = s)\n"
             "c = quantize(h); d = quantize(h)", 640),
    CHOICES: ("in a : mxfp4[M, K]; in b : mxfp4[N, K]; in rng : u64[2]; in s : f32[]; out c : four_six[M, N]\n"
              "out d : mxfp4[M, N]", "h = a @ b.T; c = quantize(h, amax = s)\n"
              "d = quantize(h, rounding = stochastic(rng, stream = 1))", 640),
    TOKENS: ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; in u : f32[M]; in v : f32[N]; out p : fp8_token[M, N]",
             "p = quantize(u / (abs(v) + abs(a @ b.T)))", 600),
}  # fmt: skip
FORMATS = """
format linear   extends nvfp4     { layout linear }
format square   extends ds_weight { scale f32 per 64 x 64 }
format four_six extends nvfp4     { quantizer nvfp4_4over6_mse }
"""
PLAIN = ("in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]", "c = a @ b.T", 600)
CASES = [
    *((QUANTIZED, mutation) for mutation in IN_QUANTIZED),
    *((HALVES, mutation) for mutation in IN_HALVES),
    *((TURNS, mutation) for mutation in IN_TURNS),
    *((RELAID, mutation) for mutation in IN_RELAID),
    *((DEQUANTIZED, mutation) for mutation in IN_DEQUANTIZED),
    *((PANELS, mutation) for mutation in IN_PANELS),
    *((CHOICES, mutation) for mutation in IN_CHOICES),
    *((TOKENS, mutation) for mutation in IN_TOKENS),
    *((SINGLE, mutation) for mutation in IN_SINGLE),
    *((PAIR, mutation) for mutation in IN_PAIR),
    *((WIDE, mutation) for mutation in IN_WIDE),
    *((SERIAL, mutation) for mutation in IN_SERIAL),
]


@pytest.mark.parametrize(
    ("schedule", "mutation"),
    [
        pytest.param(*case, id=case[1].name.replace(" ", "-"), marks=[] if i % 3 == 0 else [pytest.mark.slow])
        for i, case in enumerate(CASES)
    ],
)
def test_mutation_is_caught(compiler: Any, run: Run, schedule: str, mutation: Mutation) -> None:
    args, statements, n = KERNELS.get(schedule, PLAIN)
    dims = "M, N, K, F = N / 2" if "F" in args else "M, N, K"
    where = " where F % 64 == 0" if schedule == HALVES else ""  # then its scales come by TMA
    text = (
        f"{FORMATS}kernel gemm({dims}){where} {{ {args}; {statements} }}\nschedule gemm on sm_100a {{ {schedule} }}\n"
    )
    assert_caught(compiler, run, text, "sm_100a", mutation, M=300, N=n, K=mutation.k)


def assert_caught(compiler: Any, run: Run, text: str, target: str, mutation: Mutation, **dims: int) -> None:
    """One cluster takes all tiles of a kernel with a mistake: a fault or a wrong result for one of a few seeds."""
    lowered = compiler.lowered(text, target)
    sources = {name: emit(plan) for name, plan in plans(lowered).items()}
    name = list(sources)[mutation.launch]
    parts = sources[name].split(mutation.old)
    assert len(parts) > mutation.which + 1, "the kernel no longer has this text"
    at = mutation.which + 1
    sources[name] = mutation.old.join(parts[:at]) + mutation.new + mutation.old.join(parts[at:])
    files = {
        f"{name}.{ending}": data
        for name, source in sources.items()
        for ending, data in compiler.compile(source, target).items()
    }
    artifact = Artifact.build(manifest(lowered, {}, {}), files)
    for seed in range(8):
        try:
            order = "strict" if mutation.ordered else None
            trial = run(artifact, **dims, sms=lowered.cluster.size, mode=mutation.mode, seed=seed, order=order)
        except KernelFault:
            return
        if not trial.equal:
            return
    pytest.fail(f"not caught: {mutation.name}")


def test_the_documentation_lists_them() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("  - ").split(" (")[0] for line in page.splitlines() if line.startswith("  - ")]
    assert listed == [mutation.name for _, mutation in CASES]
