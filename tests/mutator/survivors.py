"""Mutants that change nothing, and the argument why: by kernel, kind of fault, instruction and its surroundings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .run import Verdict


@dataclass(frozen=True)
class Equivalent:
    """`kind`, `title`, `around` and `kernels` are regular expressions; all must be found."""

    why: str
    kind: str = ""
    title: str = ""
    around: str = ""
    kernels: str = ""


LAST_WAITS = (
    r"shl add add mov @ not bra (fence )?add setp|shl add add mov @ not bra fence add$|shl add add mov @ not bra add"
)
EQUIVALENT = (
    Equivalent(
        "the wait behind the accumulator's next load covers this one, before it is released; registers are read by "
        "true dependence",
        kind="dropped",
        title=r"tcgen05\.wait::ld",
        around=r"mov @ mov mov mov mul",
    ),
    Equivalent(
        "who fetches tensor maps, and how often, changes no byte",
        kind="another lane|every lane",
        title=r"elect\.sync",
        around=r"@ not bra cvta prefetch",
    ),
    Equivalent(
        "another lane may initialise the mbarriers: it fences them too, and a barrier follows",
        kind="another lane",
        around=r"@ not bra mov mbarrier\.init",
    ),
    Equivalent(
        "another lane may issue all copies of a step, with their expect_tx: the whole warp has waited for the stage",
        kind="another lane",
        around=r"mbarrier\.try_wait not bra (fence )?@ not bra",
    ),
    Equivalent(
        "another lane may release an accumulator or a stage: the warp has met at bar.warp.sync before",
        kind="another lane",
        around=r"bar\.warp\.sync @ not bra",
    ),
    Equivalent(
        "another lane may release a stage behind wgmma.wait_group: the operations that are over are those of its warp",
        kind="another lane",
        around=r"wgmma\.wait_group bra @ not bra",
    ),
    Equivalent(
        "behind tcgen05.alloc: the warp that allocates issues the MMAs, whose commits imply the fence",
        kind="dropped",
        title=r"before_thread_sync",
        around=r"tcgen05\.relinquish_alloc_permit setp @ barrier",
    ),
    Equivalent(
        "before the last barrier: each warp has fenced its last loads already, where it released the accumulator",
        kind="dropped",
        title=r"before_thread_sync",
        around=r"@ barrier\S* (barrier\S* )?bra tcgen05\.fence::after_thread_sync",
    ),
    Equivalent(
        "behind tcgen05.alloc: the warp that allocates issues the MMAs, the others have a fence behind their wait for "
        "an accumulator",
        kind="dropped",
        title=r"after_thread_sync",
        around=r"barrier\S* @ ld",
    ),
    Equivalent(
        "behind the MMA warp's wait for a free accumulator: the fence behind its wait for operands precedes any MMA",
        kind="dropped",
        title=r"after_thread_sync",
        around=r"(setp|fence) @ bra",
    ),
    Equivalent(
        "behind the MMA warp's wait for operands: TMA wrote them, and what frees the accumulator is taken up by the "
        "fence behind the wait for that",
        kind="dropped",
        title=r"after_thread_sync",
        around=r"@ elect\.sync",
    ),
    Equivalent(
        "an arrival of the thread that copies: who waits needs nothing of it but its copies, and each copy's "
        "completion carries what its thread had done",
        kind="relaxed",
        title=r"arrive\.expect_tx",
    ),
    Equivalent(
        "a CTA makes one tile and stores from each slab once: no slab is written again while a store may read it",
        kind="dropped|one group more pending",
        title=r"wait_group\.read\s+1",
        kernels="decode",
    ),
    Equivalent(
        "a CTA makes one tile and stores from each slab once: nobody needs to know of what lane 0 has waited for",
        kind="lane 0 left out",
        title=r"bar\.warp\.sync",
        around=r"cp\.async\.bulk\.wait_group @",
        kernels="decode",
    ),
    Equivalent(
        "the warps of the epilogue all meet at the other barrier instead, at which nobody else does",
        kind="another barrier",
        title=r"barrier\.sync\s+2, 128",
        kernels="hopper",
    ),
    Equivalent(
        "all threads of the CTA meet at this barrier and no other is in use: its number does not matter",
        kind="another barrier",
        title=r"barrier\.sync\s+0;|bar\.sync\s+0;",
    ),
    Equivalent(
        "the leading offset of a K-major operand with a swizzle, and of a copy of one column of core matrices, is not "
        "used (PTX ISA 9.7.16.5, 9.7.15.7.1)",
        kind=r"descriptor \d: leading",
    ),
    Equivalent(
        "a wait for what hands over tensor memory alone, which the fences of tcgen05 order",
        kind=r"relaxed|scope of the CTA|dropped",
        title=r"try_wait|fence\.acquire",
        around=r"@ not bra (fence )?(shl|setp (fence )?(tcgen05\.fence::after|$)|setp fence$)"
        r"|@ tcgen05\.fence::after_thread_sync",
    ),
    Equivalent(
        "the MMA warp's wait for operands, which copies wrote: the completion of a copy makes its bytes visible to who "
        "waits, and those who issued copies have nothing more to hand on",
        kind="scope of the CTA",
        title=r"try_wait",
        around=r"@ not bra fence tcgen05\.fence::after",
        kernels="pair|multicast",
    ),
    Equivalent(
        "a last wait of the warp that loads, which touches nothing after it; what arrives there from another CTA comes "
        "before a later commit of its thread, which is waited for before the last barrier of the cluster",
        kind=r"relaxed|scope of the CTA|another mbarrier|other parity|not waited|dropped",
        title=r"try_wait|fence\.acquire",
        around=LAST_WAITS + r"|@ add setp selp",
        kernels="nvfp4|pair|multicast|converters|quantized",
    ),
)


def reason(kernel: str, verdict: Verdict) -> str | None:
    """Why a survivor is no fault; None if nobody has said so."""
    for each in EQUIVALENT:
        pairs = (
            (each.kernels, kernel),
            (each.kind, verdict.kind),
            (each.title, verdict.title),
            (each.around, verdict.around),
        )
        if all(re.search(pattern, text) for pattern, text in pairs):
            return each.why
    return None
