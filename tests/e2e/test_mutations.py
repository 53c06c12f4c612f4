"""Mistakes put into an emitted kernel on purpose: each must be caught by running it.

What is broken is named by structure (`mutants`). A mutation counts as caught when the emulator reports a fault or a
deadlock, or the result differs from the reference. What only the proof of order finds is in test_order.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4rt import Artifact, KernelFault

from ..unoptimized import unoptimized
from .mutants import (
    B2,
    SFA,
    A,
    B,
    Emitted,
    Find,
    Mutation,
    Root,
    access,
    argument,
    argument_of,
    around,
    arrival,
    assigned,
    at,
    binary,
    both,
    call,
    constant,
    coordinate,
    destination,
    every,
    everywhere,
    exchanged,
    expected,
    function,
    instead,
    instruction,
    kernel,
    keyword,
    left,
    load,
    names,
    operand,
    operands,
    over,
    plus,
    right,
    role,
    to,
    updated,
    wait,
    without,
    without_term,
    xor,
)

Run = Callable[..., Any]


def returned(root: Root) -> Find:
    """What a function returns."""
    return lambda emitted: next(every(root(emitted), ast.Return)).value


def scales_of_other_rows(offset: Any) -> ast.AST:
    """In an atom a row's run of 32 and a block's number exchanged: the last two terms."""
    rows, block = offset.left.right.left, offset.right
    offset.left.right.left, offset.right = block, rows
    return offset


def counted_anew(emitted: Emitted) -> None:
    """Converter warps begin each tile at the step at which they began the first."""
    begun = ast.unparse(assigned(CONVERT, "k_tile")(emitted))
    emitted.put(updated(CONVERT, "k_tile", ast.Sub)(emitted), ast.parse(f"k_tile = {begun}").body[0])


def of_choice(found: ast.Call) -> bool:
    """Whether a call takes what the better one of two scales gives."""
    return names(found.args[0]) == {"better"}


PAIR = "tile 256 x 128 x 256; cluster 4 x 2"
SINGLE = "tile 128 x 64 x 256; cluster 1 x 1"
WIDE = "tile 128 x 256 x 256; cluster 1 x 1"
SERIAL = "tile 128 x 256 x 256; cluster 1 x 1; accumulators 1"
DELAYED = "delayed"
MMA, LOAD, EPILOGUE, CONVERT = role("mma"), role("load"), role("epilogue"), role("convert")
MULTIPLIED = call(MMA, "tcgen05_mma_block_scale")
DESCRIBED = call(MMA, "build")
SUBTILE = argument(call(EPILOGUE, "make_tmem_ptr", 0, lambda each: "subtile" in names(each)), 0)

IN_SINGLE = [
    Mutation("tile of A from the wrong row", at(coordinate(A, 1), plus(1))),
    Mutation("tile of B from the wrong column", at(coordinate(B, 1), to("m0"))),
    Mutation("off by one in K", at(coordinate(A, 0), plus("TILE_K"))),
    Mutation("one step of K too few", at(argument(over(MMA, "k_tiles"), 0), to("k_tiles - 1"))),
    Mutation("scales of the next atom", at(coordinate(SFA, 2), plus(1))),
    Mutation("scales of another row of tiles", at(coordinate(SFA, 1), plus(1))),
    Mutation("wrong scale column for A", at(argument(assigned(MMA, "scale_a"), 0), plus(1))),
    Mutation("wrong scale column for B", at(assigned(MMA, "scale_b"), instead("sfb_column", "SFB_COLUMN"))),
    Mutation("scales of B swapped between steps", at(assigned(MMA, "scale_b"), instead("i", "3 - i"))),
    Mutation("descriptor: wrong step along K", at(argument(MULTIPLIED, 3), instead(32, 16))),
    Mutation("descriptor: wrong stride", at(keyword(DESCRIBED, "stride_byte_offset"), to("512"))),
    Mutation("descriptor: wrong swizzle", at(keyword(DESCRIBED, "layout"), to("prims.Tcgen05SmemSwizzle.SWIZZLE_64B"))),
    Mutation("instruction: wrong N", constant("INSTRUCTION", plus("-0x20000"))),
    Mutation("instruction: E8M0 scales", constant("INSTRUCTION", plus("0x800000"))),
    Mutation("accumulates over the last tile", at(keyword(MULTIPLIED, "enable_input_d"), to("True"))),
    Mutation("forgets earlier steps", at(keyword(MULTIPLIED, "enable_input_d"), to("i != 0"))),
    Mutation("too few bytes expected", at(argument(call(LOAD, "mbarrier_arrive_expect_tx"), 1), plus(-512))),
    Mutation("too many bytes expected", at(argument(call(LOAD, "mbarrier_arrive_expect_tx"), 1), plus(512))),
    Mutation("MMA does not wait for data", without(wait("mma", "ab_full")), mode=DELAYED),
    Mutation("load does not wait for a free stage", without(wait("load", "ab_empty")), mode=DELAYED),
    Mutation("MMA does not wait for the epilogue", without(wait("mma", "acc_empty")), mode=DELAYED),
    Mutation("epilogue does not wait for the MMA", without(wait("epilogue", "acc_full")), mode=DELAYED),
    Mutation("wrong parity", at(assigned(LOAD, "parity"), instead(1, 0))),
    Mutation("parity is not flipped", at(updated(LOAD, "parity", ast.BitXor), operand("value", to("0")))),
    Mutation("accumulator never released", without(arrival("epilogue", "acc_empty"))),
    Mutation("stage never released", without(arrival("mma", "ab_empty"))),
    Mutation("wrong quarter of tensor memory", at(assigned(EPILOGUE, "lanes"), instead("warp", "(3 - warp)"))),
    Mutation("wrong sub-tile", at(SUBTILE, instead("subtile", "(subtile ^ 1)"))),
    Mutation("wrong row of tiles", at(assigned(function("place"), "row"), to("within % width"))),
    Mutation("a tile left out", at(argument(over(LOAD, "first_tile"), 0), plus(1))),
]
IN_PAIR = [
    Mutation("multicast of A to the wrong CTAs", at(keyword(load(A), "multicast_mask"), to("0b11"))),
    Mutation("multicast of A to too few CTAs", at(keyword(load(A), "multicast_mask"), operand("left", to("0b1")))),
    Mutation("multicast of B ignores the half", at(keyword(load(B), "multicast_mask"), operand("right", left))),
    Mutation("both CTAs load the same half of B", at(binary(coordinate(B, 1), ast.Mod), to("0"))),
    Mutation("slice of A at the wrong place", at(destination(A), without_term("cta_n"))),
    Mutation(
        "stage freed for one CTA only", at(keyword(arrival("mma", "ab_empty"), "multicast_mask"), to("0b1 << rank"))
    ),
    Mutation(
        "second CTA never told of the result",
        at(keyword(arrival("mma", "acc_full"), "multicast_mask"), operand("left", to("0b1"))),
    ),
    Mutation(
        "accumulator released at this CTA, not its leader",
        at(argument(argument(arrival("epilogue", "acc_empty"), 0), 1), to("rank")),
    ),
    Mutation("one arrival too many is awaited", at(expected("acc_empty"), plus(1))),
]
IN_WIDE = [
    Mutation("accumulators overlap more than planned", constant("ACC_STRIDE", to("160")), k=32, ordered=True),
    Mutation("MMA does not wait for the shared columns", without(wait("mma", "acc_empty")), mode=DELAYED, k=32),
    Mutation(
        "shared columns read last",
        at(lambda e: assigned(EPILOGUE, "subtile")(e).test, operand("test", to("0"))),
        mode=DELAYED,
        k=32,
    ),
]
IN_SERIAL = [
    Mutation(
        "accumulator released too early",
        at(around(arrival("epilogue", "acc_empty"), ast.If, "epilogue"), operand("test", to("0"))),
        mode=DELAYED,
    ),
]
QUANTIZED = "tile 128 x 128 x 256; cluster 1 x 1 "
CONVERTED = "cvt.rn.satfinite.e2m1x2.f32"
STORED = function("store_c_scales")
PADDED = call(STORED, "where_int")
IN_QUANTIZED = [
    Mutation(
        "swapped nibbles",
        at(instruction(CONVERTED), operands(r"(e2m1x2\.f32 \w+), (\$\d+), (\$\d+)", r"\1, \3, \2")),
    ),
    Mutation(
        "swapped bytes of codes", at(instruction(CONVERTED), operands(r"\{(\w+), (\w+), (?=\w+, \w+\})", r"{\2, \1, "))
    ),
    Mutation(
        "scale bytes in other rows' places",
        at(returned(function("c_scale_offset")), scales_of_other_rows),
    ),
    Mutation(
        "padding of the scales not written",
        at(argument(assigned(STORED, "valid"), 1), operand("test", to("blocks"))),
    ),
    Mutation(
        "scales of the padding not zero",
        both(at(argument(PADDED, 0), argument_of(0)), at(argument(PADDED, 2), to("1"))),
    ),
    Mutation(
        "wrong factor of the block scale",
        at(argument(call(everywhere, "mul", 0, lambda each: names(each) == {"mul", "tensor_encode"}), 1), to("0.1667")),
    ),
]
HALVES = "tile 128 x 192 x 256; cluster 1 x 1"
IN_HALVES = [
    Mutation("second half of B from the first's rows", at(coordinate(B2, 1), without_term("n_size"))),
    Mutation(
        "second half within the wrong half of a scale atom", at(assigned(MMA, "sfb2_column"), without_term("n_size"))
    ),
    Mutation("second half's bias is the first's", at(access(EPILOGUE, "v", 1), without_term("n_size"))),
]
TURNS = "tile 128 x 192 x 256; cluster 1 x 1; stages 2"
IN_TURNS = [
    Mutation("halves that take turns in other groups", at(argument(call(EPILOGUE, "half_of"), 1), to("8"))),
]
RELAID = "tile 128 x 128 x 256; cluster 1 x 1;"
FETCHED, PUT, PAIRS = function("fetch_b"), function("put_b"), function("pairs_of_e2m1")
IN_RELAID = [
    Mutation("no proxy fence after scales", without(call(CONVERT, "fence_proxy"))),
    Mutation("converters do not wait for a free stage", without(wait("convert", "ab_empty")), mode=DELAYED),
    Mutation("MMA does not count the converters", at(expected("ab_full"), to("1"))),
    Mutation("converters have another parity", at(assigned(CONVERT, "parity"), instead(1, 0))),
    Mutation("steps are counted anew in each tile", counted_anew, k=704),
    Mutation("scales of the next row", at(assigned(FETCHED, "row"), plus(1))),
    Mutation("scales past the end of a row are read", at(argument(assigned(FETCHED, "left"), 1), to("16"))),
]
DEQUANTIZED = "tile 256 x 64 x 64; cluster 2 x 1"
IN_DEQUANTIZED = [
    Mutation("wrong chunk of the swizzle", at(binary(call(PUT, "shared_store_4_words"), ast.BitXor), right)),
    Mutation("one scale for two blocks", at(binary(PUT, ast.RShift), to("0"))),
    Mutation(
        "codes of a word in another order",
        at(binary(PAIRS, ast.Mod), operand("right", to("3 - i"))),
    ),
    Mutation("codes past the last row are read", at(assigned(FETCHED, "valid"), argument_of(1))),
    Mutation(
        "both CTAs dequantize the same half of B", at(argument(call(CONVERT, "fetch_b"), 2), without_term("cta_m"))
    ),
    Mutation(
        "converters arrive at their own CTA, not the leader",
        at(argument(argument(arrival("convert", "ab_full"), 0), 1), to("rank")),
    ),
]
PANELS = "tile 128 x 128 x 256; cluster 1 x 1; stages 3"
JOINED = call(EPILOGUE, "largest_of_warps")
IN_PANELS = [
    Mutation(
        "factor of the panel's first block",
        at(binary(assigned(EPILOGUE, "c_factor"), ast.BitAnd), operand("right", to("-4"))),
    ),
    Mutation("measured with the blocks of other rows", at(argument(JOINED, 3), to("4"))),
    Mutation("rows past the last are measured", at(argument(JOINED, 2), argument_of(1))),
    Mutation(
        "joined before all warps have measured",
        without(call(function("largest_of_warps"), "barrier_cta_sync", 1)),
        mode=DELAYED,
    ),
    Mutation("half of a block measured", at(argument(call(EPILOGUE, "shared_floats"), 2), to("1"))),
    Mutation(
        "halves of a transform taken for each other", at(argument(call(EPILOGUE, "hadamard_of_runs", 1), 2), plus(1))
    ),
    Mutation("signs of other points", at(access(EPILOGUE, "s"), operand("right", to("31")))),
]
CHOICES = "tile 128 x 128 x 256; cluster 1 x 1; stages 4"
RANDOM = call(EPILOGUE, "random_words")
IN_CHOICES = [
    Mutation("codes of the scale not taken", at(call(everywhere, "where", 0, of_choice), exchanged(1, 2))),
    Mutation(
        "errors of one scale compared",
        at(argument(call(everywhere, "c_error", 0, lambda each: "scale_2" in names(each)), 2), to("scale")),
    ),
    Mutation("scale of the choice not taken", at(call(everywhere, "where_int", 0, of_choice), argument_of(2))),
    Mutation("random bytes of the group before", at(argument(RANDOM, 2), xor(1))),
    Mutation("random bytes of another stream", at(argument(RANDOM, 1), to("0"))),
]
TOKENS = "tile 128 x 128 x 256; cluster 1 x 1; stages 2"
IN_TOKENS = [
    Mutation("maxima of another row", at(access(EPILOGUE, "p_amax"), to("row ^ 1"))),
    Mutation("maximum of the last sub-tile", at(argument(assigned(EPILOGUE, "p_amax_part", 1), 0), to("Float32(0.0)"))),
    Mutation("columns past the last are measured", at(call(EPILOGUE, "within"), argument_of(0))),
    Mutation("second launch reads another row's maximum", at(access(kernel, "p_amax"), to("m0")), launch=1),
    Mutation("second launch quantizes other columns", at(assigned(kernel, "first_column"), to("0")), launch=1),
]
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
        pytest.param(*case, id=case[1].name.replace(" ", "-"), marks=[] if i % 9 == 0 else [pytest.mark.slow])
        for i, case in enumerate(CASES)
    ],
)
def test_mutation_is_caught(compiler: Any, run: Run, schedule: str, mutation: Mutation) -> None:
    text, n = spec(schedule)
    assert_caught(compiler, run, text, "sm_100a", mutation, M=300, N=n, K=mutation.k)


def spec(schedule: str) -> tuple[str, int]:
    """The kernel of a group and its schedule, and the N of its runs."""
    args, statements, n = KERNELS.get(schedule, PLAIN)
    dims = "M, N, K, F = N / 2" if "F" in args else "M, N, K"
    where = " where F % 64 == 0" if schedule == HALVES else ""  # then its scales come by TMA
    block = f"schedule gemm on sm_100a {{ {schedule} }}\n"
    return f"{FORMATS}kernel gemm({dims}){where} {{ {args}; {statements} }}\n{block}", n


def assert_caught(
    compiler: Any, run: Run, text: str, target: str, mutation: Mutation, *, sms: int | None = None, **dims: int
) -> None:
    """A kernel with a mistake on so many SMs, or with one cluster: a fault or a wrong result for one of a few seeds."""
    lowered = compiler.lowered(text, target)
    sources = {name: emit(plan) for name, plan in plans(lowered).items()}
    name = list(sources)[mutation.launch]
    sources[name] = mutation.applied(list(plans(lowered).values())[mutation.launch], sources[name])
    files = {
        f"{name}.{ending}": data
        for name, source in sources.items()
        for ending, data in compiler.compile(unoptimized(source), target).items()
    }
    artifact = Artifact.build(manifest(lowered, {}, {}), files)
    for seed in range(8):
        try:
            order = "strict" if mutation.ordered else None
            trial = run(artifact, **dims, sms=sms or lowered.cluster.size, mode=mutation.mode, seed=seed, order=order)
        except KernelFault:
            return
        if not trial.equal:
            return
    pytest.fail(f"not caught: {mutation.name}")


def test_the_documentation_lists_them() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "verification.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("  - ").split(" (")[0] for line in page.splitlines() if line.startswith("  - ")]
    assert listed == [mutation.name for _, mutation in CASES]
