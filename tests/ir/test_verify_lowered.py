"""Mistakes planted into lowered kernels: each is named before anything is emitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.ir.lowered import Cluster, LoweredKernel
from fp4cc.ir.part import Part
from fp4cc.ir.verify_lowered import problems, verify_lowered
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

Plant = Callable[[Any], LoweredKernel]
SPECS = {
    "pair": ("sm_100a", "in a : nvfp4[M, K]; in b : nvfp4[N, K]; in r : bf16[M, N]; out c : bf16[M, N]\n"
             "c = a @ b.T + r", "cluster 4 x 2; tile 256 x 128 x 256; stages 3"),
    "two": ("sm_100a", "in a : mxfp8[M, K]; in b : mxfp8[N, K]; in d : mxfp8[N, K]; out c : bf16[M, N]\n"
            "c = (a @ b.T) * (a @ d.T)", "cluster 1 x 1; tile 128 x 64 x 128; stages 2"),
    "wide": ("sm_100a", "in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T",
             "cluster 1 x 1; tile 128 x 256 x 256"),
    "converted": ("sm_100a", "in a : bf16[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T",
                  "cluster 2 x 1; tile 256 x 64 x 64; stages 4"),
    "promoted": ("sm_100a", "in a : ds_act[M, K]; in b : ds_weight[N, K]; out c : bf16[M, N]; c = a @ b.T", ""),
    "hopper": ("sm_90a", "in a : bf16[M, K]; in b : nvfp4[N, K]; in v : f32[N]; out c : bf16[M, N]; c = (a @ b.T) * v",
               "cluster 2 x 1"),
    "decode": ("sm_90a", "in a : bf16[M, K]; in b : nvfp4[N, K]; in d : bf16[N, K]; out c : bf16[M, N]\n"
               "c = (a @ b.T) * (a @ d.T)", ""),
}  # fmt: skip


@cache
def made(spec: str) -> LoweredKernel:
    target, body, fields = SPECS[spec]
    schedule = f"schedule k on {target} {{ {fields} }}\n" if fields else ""
    text = f"kernel k({'M = 12' if spec == 'decode' else 'M'}, N, K) {{ {body} }}\n{schedule}"
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], target)


# How a part is changed: `buffer("a_smem", offset=1)` is a function from a kernel to one with that mistake.


def top(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, **changes)


def buffer(name: str, **changes: Any) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        buffers = tuple(replace(b, **changes) if b.name == name else b for b in kernel.smem.buffers)
        assert buffers != kernel.smem.buffers
        return replace(kernel, smem=replace(kernel.smem, buffers=buffers))

    return plant


def smem(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, smem=replace(kernel.smem, **changes))


def pipeline(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, pipeline=replace(kernel.pipeline, **changes))


def ring(name: str, **changes: Any) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        barriers = tuple(replace(b, **changes) if b.name == name else b for b in kernel.pipeline.barriers)
        return replace(kernel, pipeline=replace(kernel.pipeline, barriers=barriers))

    return plant


def load(name: str, **changes: Any) -> Plant:
    """Changes a load of each mainloop."""

    def change(loads: Any) -> Any:
        return tuple(replace(each, **changes) if each.part.buffer == name and each.into == "stage" else each
                     for each in loads)  # fmt: skip

    def plant(kernel: Any) -> LoweredKernel:
        mainloops = tuple(replace(loop, feeds=change(loop.feeds)) for loop in kernel.mainloops)
        return replace(kernel, mainloops=mainloops)

    return plant


def slot(**changes: Any) -> Plant:
    """Changes what threads bring to slots, in each mainloop."""

    def plant(kernel: Any) -> LoweredKernel:
        loops = [
            replace(loop, feeds=tuple(replace(f, **changes) if f.into == "slot" else f for f in loop.feeds))
            for loop in kernel.mainloops
        ]
        return replace(kernel, mainloops=tuple(loops))

    return plant


def without_slots(kernel: Any) -> LoweredKernel:
    loops = (replace(loop, feeds=loop.loads) for loop in kernel.mainloops)
    return replace(kernel, mainloops=tuple(loops))


def mainloop(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, mainloops=(replace(kernel.mainloops[0], **changes), *kernel.mainloops[1:]))


def tmem(**changes: Any) -> Plant:
    return engine(lambda found: {"tmem": replace(found.tmem, **changes)})


def engine(changes: Callable[[Any], dict[str, Any]]) -> Plant:
    return lambda kernel: replace(kernel, engine=replace(kernel.engine, **changes(kernel.engine)))


def role(called: str, /, **changes: Any) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        return replace(kernel, roles=tuple(replace(r, **changes) if r.name == called else r for r in kernel.roles))

    return plant


def named(called: str, /, **changes: Any) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        barriers = tuple(replace(b, **changes) if b.name == called else b for b in kernel.named_barriers)
        assert barriers != kernel.named_barriers
        return replace(kernel, named_barriers=barriers)

    return plant


def exchange(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, exchange=replace(kernel.exchange, **changes))


def wide_sums(kernel: Any) -> LoweredKernel:
    pitch = 16 * kernel.launch.threads + 16
    return exchange(pitch=pitch)(buffer("sums", bytes=kernel.exchange.rows * pitch)(kernel))


def without_products(kernel: Any) -> LoweredKernel:
    return replace(kernel, problem=replace(kernel.problem, products=()))


def another_step(kernel: Any) -> LoweredKernel:
    return replace(kernel, promotion=replace(kernel.promotion, step=64))


def launch(**changes: Any) -> Plant:
    return lambda kernel: replace(kernel, launch=replace(kernel.launch, **changes))


def tensor_map(index: int, **changes: Any) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        maps = list(kernel.tensor_maps)
        maps[index] = replace(maps[index], **changes)
        return replace(kernel, tensor_maps=tuple(maps))

    return plant


def without_maps(kernel: Any) -> LoweredKernel:
    return replace(kernel, tensor_maps=kernel.tensor_maps[:-1])


def same_parameter_twice(kernel: Any) -> LoweredKernel:
    return replace(kernel, launch=replace(kernel.launch, params=(*kernel.launch.params, kernel.launch.params[0])))


def without_a_load(kernel: Any) -> LoweredKernel:
    return mainloop(feeds=kernel.mainloops[0].feeds[:-1])(kernel)


def without_buffer(name: str) -> Plant:
    def plant(kernel: Any) -> LoweredKernel:
        buffers = tuple(b for b in kernel.smem.buffers if b.name != name)
        return replace(kernel, smem=replace(kernel.smem, buffers=buffers))

    return plant


def more_teams(kernel: Any) -> LoweredKernel:
    return replace(kernel, converters=replace(kernel.converters, teams=5))


PLANTED: list[tuple[str, str, Plant, str]] = [
    ("pair", "buffers overlap", buffer("sfa_smem", offset=0), "starts at byte 0"),
    ("pair", "a buffer off its alignment", buffer("b_smem", align=1 << 20), "is not on 1048576 bytes"),
    ("pair", "more shared memory than counted", smem(total=1), "1 are counted"),
    ("pair", "more than an SM has", smem(padding=1 << 20), "asked for"),
    ("pair", "a ring without memory", without_buffer("acc_full"), "acc_full of"),
    ("pair", "fewer barriers than slots", buffer("ab_full", stages=2), "ab_full of 3 barriers has no such buffer"),
    ("pair", "threads that are no whole warps", launch(threads=200), "200 threads"),
    ("pair", "too many threads", launch(threads=2048), "2048 threads"),
    ("pair", "registers that setmaxnreg cannot take", launch(registers=(("all", 100),)), "registers of [100]"),
    ("pair", "more registers than there are", launch(registers=(("a", 256), ("b", 256), ("c", 8 * 32))), "more than"),
    ("pair", "a parameter twice", same_parameter_twice, "two parameters have one name"),
    ("pair", "a tensor map without a parameter", tensor_map(-1, name="other"), "is no parameter"),
    ("pair", "a store without its tensor map", without_maps, "cannot be stored by TMA"),
    ("pair", "slots of an input too small", buffer("r_tiles", bytes=64), "r has no slots of its size"),
    ("pair", "slots of a result too few", buffer("c_slabs", stages=1), "c has no slots of its size"),
    ("pair", "slots without barriers", without_buffer("r_full"), "r has not a barrier for each slot"),
    ("pair", "an arrival too many awaited", ring("ab_full", arrivals=2), "ab_full waits for 2 arrivals, and 1 arrive"),
    ("pair", "arrivals of one CTA's warps", ring("acc_empty", arrivals=4), "acc_empty waits for 4 arrivals, and 8"),
    ("pair", "a commit too few awaited", ring("ab_empty", arrivals=1), "ab_empty waits for 1 arrivals"),
    ("pair", "a ring never arrived at", ring("acc_full", arrivals=0), "acc_full counts 0 arrivals"),
    ("pair", "more bytes than an mbarrier counts", ring("ab_full", tx_bytes=1 << 20), "1048576 bytes"),
    ("pair", "bytes of one CTA", mainloop(tx_bytes=10), "a stage counts 10 bytes"),
    ("pair", "bytes of another mainloop", ring("ab_full", tx_bytes=64), "other bytes than the first mainloop's"),
    ("pair", "a scope too small", ring("ab_empty", scope="cta"), "is waited for at CTA scope"),
    ("pair", "a slice twice", load("a_smem", masks=(255,) * 8), "CTA 0 gets 8 of 2 slices"),
    ("pair", "a slice nobody gets", load("sfb_smem", masks=(0,) * 8), "CTA 0 gets 0 of"),
    ("pair", "masks of another cluster", load("a_smem", masks=(1,)), "has 1 masks for 8 CTAs"),
    ("pair", "a CTA outside the cluster", load("a_smem", masks=(1 << 9,) * 8), "outside the cluster"),
    ("pair", "a stage larger than its slot", load("a_smem", slice_bytes=1 << 15), "do not fit in a slot of a_smem"),
    ("pair", "a box of other bytes", tensor_map(0, box=(256, 32)), "brings other than the"),
    ("pair", "a slot off its swizzle", load("b_smem", slice_bytes=512), "the swizzle of b_codes repeats in"),
    ("pair", "an unknown buffer", load("a_smem", part=Part("B", 7)), "one of them does not exist"),
    ("pair", "a part of a stage that nobody brings", without_a_load, "multiplies by scales of b, which nobody brings"),
    ("pair", "a stage freed for too few", pipeline(empty_masks=(1, 0, 4, 0, 16, 0, 64, 0)), "may still read"),
    ("pair", "commits of another cluster", pipeline(acc_full_masks=(3,)), "masks are not of 8 CTAs"),
    ("pair", "one CTA of a pair not told", pipeline(acc_full_masks=(1, 0, 4, 0, 16, 0, 64, 0)), "CTA 1 is not told"),
    ("pair", "columns that are no power of two", tmem(columns=384), "in an allocation of 384"),
    ("pair", "more columns than allocated", tmem(end=600), "600 columns of tensor memory"),
    ("pair", "scales over the accumulators", tmem(sfa=0), "accumulators start at column 0"),
    ("pair", "a column not counted", tmem(end=260), "are counted"),
    ("two", "scales of two Bs in one place", tmem(sfb_stride=0), "scales of B"),
    ("two", "two sets of accumulators on each other", tmem(acc_stride=64), "two sets of accumulators share columns"),
    ("wide", "the second accumulator over the scales", tmem(acc_stride=250), "scales of A start at column"),
    ("converted", "the converters not counted", ring("ab_full", arrivals=1), "ab_full waits for 1 arrivals"),
    ("converted", "more teams than stages", more_teams, "5 teams of converter warps have 4 stages"),
    ("promoted", "warps not counted", ring("acc_empty", arrivals=1), "acc_empty waits for 1 arrivals, and 4 arrive"),
    ("promoted", "bytes of A only", ring("ab_full", tx_bytes=128 * 128), "ab_full counts other bytes"),
    ("promoted", "a partial sum outside", tmem(columns=128), "256 columns of tensor memory in an"),
    ("hopper", "warps of one CTA", ring("ab_empty", arrivals=4), "ab_empty waits for 4 arrivals, and 8 arrive"),
    ("hopper", "a share of B nobody loads", load("b_smem", masks=(3, 0)), "CTA 0 gets 1 of 2 slices"),
    ("hopper", "a scope too small", ring("ab_full", scope="cta"), "is waited for at CTA scope"),
    ("hopper", "slots over each other", engine(lambda found: {"slots": 9}), "converted operands do not fit"),
    ("pair", "codes that nobody brings", mainloop(feeds=()), "multiplies a, which nobody brings"),
    ("pair", "a part twice", load("b_smem", part=Part("A")), "brought to one buffer"),
    ("pair", "no problem", top(problem=None), "some and not the others"),
    ("pair", "no engine", top(engine=None), "some and not the others"),
    ("pair", "no pipeline", top(pipeline=None), "nothing brings it"),
    ("pair", "no rings nor loads", lambda k: top(pipeline=None)(mainloop(feeds=())(k)), "there are no rings"),
    ("hopper", "no rings nor loads", lambda k: top(pipeline=None)(mainloop(feeds=())(k)), "there are no rings"),
    ("pair", "a product that is not made", without_products, "other products than the problem"),
    ("pair", "warps without a role", role("mma", first=6), "warps 6 to 6 are for mma"),
    ("pair", "warps that are not there", role("load", warps=2), "warps 5 to 5 are for mma"),
    ("pair", "more threads than roles", launch(threads=224), "224 threads, and 6 warps have a role"),
    ("pair", "a role twice", role("mma", name="load"), "two roles have one name"),
    ("pair", "a ring nobody fills", ring("ab_full", by=()), "nobody arrives at ab_full"),
    ("pair", "a ring nobody waits for", ring("acc_full", awaited_by=()), "nobody waits for acc_full"),
    ("pair", "a ring filled by nobody here", ring("ab_full", by=("convert",)), "convert arrives at ab_full"),
    ("two", "a product without an instruction", engine(lambda e: {"mmas": ((e.mma,),)}), "not every product has"),
    ("converted", "converters without a role", top(converters=None), "the other way round"),
    ("converted", "fewer converters than planned", role("convert", warps=1), "converter warps are planned, and 1"),
    ("promoted", "a step that the scales do not cover", another_step, "sums of [128] along K are promoted every 64"),
    ("promoted", "sums without a place", exchange(pitch=1 << 12), "sums do not fit in exchange_smem"),
    ("hopper", "two with one number", named("OPERAND_BARRIER", number=1), "barriers have one number"),
    ("hopper", "two with one name", named("OPERAND_BARRIER", name="EPILOGUE_BARRIER"), "barriers have one name"),
    ("hopper", "the barrier of all threads", named("OPERAND_BARRIER", number=0), "has the number 0"),
    ("hopper", "a seventeenth barrier", named("OPERAND_BARRIER", number=16), "has the number 16"),
    ("hopper", "a barrier of nobody", named("OPERAND_BARRIER", role="mma"), "mma meet at OPERAND_BARRIER"),
    ("hopper", "codes that nobody converts", without_slots, "nobody makes e2m1 that"),
    ("hopper", "a slot of what no stage has", slot(part=Part("B", 7)), "slots take ['b8'] of a stage"),
    ("hopper", "scales that no stage has", load("sfb_smem", part=Part("B", 7, scales=True)), "are read in a stage"),
    ("hopper", "a mainloop not converted", engine(lambda found: {"wides": ()}), "0 mainloops have a type"),
    ("hopper", "a construct's barrier not there", named("EPILOGUE_BARRIER", name="OTHER"), "meet at EPILOGUE_BARRIER"),
    ("decode", "operands that nobody reads", engine(lambda e: {"pairs": e.pairs[:1]}), "other operands"),
    ("decode", "the operands of another product", engine(lambda e: {"pairs": e.pairs[::-1]}), "other operands"),
    ("decode", "half an instruction", engine(lambda e: {"columns": 8}), "warps of 8 columns do not make a tile"),
    ("decode", "columns that no warp makes", engine(lambda e: {"columns": 16}), "threads are not"),
    ("decode", "a share of K that no warp has", engine(lambda e: {"shares": 2 * e.shares}), "threads are not"),
    ("decode", "steps of other lengths", engine(lambda e: {"run": 2 * e.run}), "a step of a mainloop is not the"),
    ("decode", "shares in two CTAs", top(cluster=Cluster(2, 1)), "2 CTAs cannot add up"),
    ("decode", "more CTAs than an SM holds", engine(lambda e: {"ctas": 99}), "99 CTAs of"),
    ("decode", "rows that nobody makes", engine(lambda e: {"groups": 1}), "12 rows, and 8 are made"),
    ("decode", "sums over the zeros", lambda k: exchange(rows=k.exchange.rows - 1)(k), "and one of zeros"),
    ("decode", "sums in each other's columns", exchange(pitch=64), "rows of sums 64 bytes apart"),
    ("decode", "sums off their words", lambda k: exchange(pitch=k.exchange.pitch - 4)(k), "bytes apart have"),
    ("decode", "zeros that no thread writes", wide_sums, "do not zero"),
    ("decode", "no exchange", top(exchange=None), "meet nowhere"),
    ("hopper", "column values without a place", without_buffer("columns_smem"), "column values have no place"),
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
def test_what_the_passes_make_is_sound(spec: str) -> None:
    assert list(problems(made(spec))) == []


@pytest.mark.parametrize(("spec", "plant", "text"), [(s, p, t) for s, _, p, t in PLANTED],
                         ids=[f"{s}: {n}".replace(" ", "-") for s, n, _, _ in PLANTED])  # fmt: skip
def test_a_planted_mistake_is_named(spec: str, plant: Plant, text: str) -> None:
    found = list(problems(plant(made(spec))))
    assert any(text in each for each in found), found


def test_all_plans_are_verified_and_all_mistakes_named() -> None:
    kernel = made("pair")
    broken = ring("acc_full", arrivals=2)(ring("acc_empty", arrivals=4)(kernel))
    for whole in (broken, replace(kernel, variants=(broken,)), replace(kernel, after=(broken,))):
        with pytest.raises(DiagnosticError, match="FP9001") as refused:
            verify_lowered(whole)
        assert {d.code for d in refused.value.diagnostics} == {"FP9001"}
        assert len(refused.value.diagnostics) == 2
    assert verify_lowered(kernel) is kernel
