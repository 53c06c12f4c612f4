"""The order of accesses in our own kernels: proved strictly, and found broken where one synchronisation is left out.

Each mutation is one instruction of the compiled PTX, dropped or replaced. What the emulator's values cannot show
(fences have no effect on them, warps run in lockstep) the proof must.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from fp4rt import Artifact, KernelFault, random_inputs
from fp4rt.devices.emulator import EmulatorDevice

BLACKWELL = """kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : f32[M, N]; c = a @ b.T }
schedule gemm on sm_100a { tile 128 x 64 x 256; cluster 1 x 1; stages 2 }
"""
PAIR = BLACKWELL.replace("tile 128 x 64 x 256; cluster 1 x 1", "tile 256 x 128 x 256; cluster 2 x 1")
HOPPER = """kernel gemm(M, N, K) { in a : bf16[M, K]; in b : bf16[N, K]; out c : f32[M, N]; c = a @ b.T }
schedule gemm on sm_90a { tile 128 x 128 x 64; cluster 1 x 1; stages 2 }
"""
#: Rows of c that TMA can store, and rows that it cannot.
SIZES = {"M": 136, "N": 136, "K": 544}
RAGGED = {"M": 136, "N": 135, "K": 544}


@dataclass(frozen=True)
class Mutation:
    """Each match of `old` is one fault: replaced by `new`, alone. `equivalent`: those that change nothing, by the
    opcodes around them (a regular expression of `_around`), with the reason."""

    name: str
    spec: str
    old: str
    new: str = ""
    checks: str = "race|proxy|refill|lanes|tcgen05|alloc|phase|exit|init-fence|wgmma"
    equivalent: dict[str, str] = field(default_factory=dict[str, str])


MUTATIONS = [
    Mutation(
        "fence before",
        BLACKWELL,
        r"tcgen05\.fence::before_thread_sync;",
        checks="tcgen05|alloc",
        equivalent={
            r"@ barrier\.sync tcgen05\.fence::after_thread_sync ld\.shared": "behind tcgen05.alloc: the warp that "
            "allocates issues the MMAs, and their commit implies the fence",
            r"@ barrier\.sync bra tcgen05\.fence::after_thread_sync": "before the last barrier: each warp has fenced "
            "its last loads already, where it released the accumulator",
        },
    ),
    Mutation(
        "fence after",
        BLACKWELL,
        r"tcgen05\.fence::after_thread_sync;",
        checks="tcgen05|alloc",
        equivalent={
            r"barrier\.sync @ ld\.shared": "behind tcgen05.alloc: the warp that allocates issues the MMAs, the others "
            "have a fence behind their wait for an accumulator",
            r"setp\.lt\S* @ bra": "behind the MMA warp's wait for a free accumulator: the fence behind its wait for "
            "operands comes before any MMA too",
            r"bra @ elect\.sync": "behind the MMA warp's wait for operands: TMA wrote them, and what frees the "
            "accumulator is taken up by the fence behind the wait for that",
        },
    ),
    Mutation(
        "wait for loads",
        BLACKWELL,
        r"tcgen05\.wait::ld[^;]*;",
        checks="tcgen05",
        equivalent={
            r"mov\S* @ mov\S* mov\S* mov\S* mul": "behind the first of two sub-tiles of a turn: what uses its "
            "registers depends on the load, and the wait for the second comes before the accumulator is released",
        },
    ),
    Mutation(
        "bar.warp.sync",
        BLACKWELL,
        r"bar\.warp\.sync[^;]*;",
        equivalent={
            r"ld\.param\S* add\S* @ shl": "in the walk of rows that TMA cannot store: no store by TMA reads the slab, "
            "and lanes that have read a stage have met since",
        },
    ),
    Mutation("mbarrier_init", BLACKWELL, r"fence\.mbarrier_init[^;]*;", checks="init-fence"),
    Mutation(
        "cluster fence",
        PAIR,
        r"fence\.acquire\.sync[^;]*;",
        equivalent={
            r"bra @ add\S* setp\.eq": "behind the load warp's last waits, which keep the CTA alive: it touches nothing "
            "after them",
            r"setp\.lt\S* @ tcgen05\.fence::after_thread_sync": "behind the MMA warp's wait for a free accumulator: "
            "that hands over tensor memory alone, which tcgen05's fences order",
            r"selp\S* add\S* @ tcgen05\.fence::after_thread_sync": "behind the epilogue's wait for an accumulator, "
            "likewise",
        },
    ),
    Mutation("mbarrier_init of a pair", PAIR, r"fence\.mbarrier_init[^;]*;", checks="init-fence"),
    Mutation(
        "issuing thread",
        BLACKWELL,
        r"elect\.sync\s+(%r\d+)\|(%p\d+), -1;",
        r"mov.u32 \1, %laneid; setp.eq.u32 \2, \1, 1;",
        # Lane 1 may not issue the MMAs that lane 0 commits, nor commit those of lane 0.
        equivalent={
            r"@ not\.pred bra mov\S* mbarrier\.init": "lane 1 may initialise the mbarriers: it fences them too, and a "
            "barrier follows",
            r"@ not\.pred bra mov\S* mbarrier\.arrive\.expect_tx": "lane 1 may issue all copies, with their expect_tx",
            r"wait::ld\S* tcgen05\S* bar\.warp\.sync @": "lane 1 may release an accumulator, behind bar.warp.sync",
            r"bra tcgen05\S* bar\.warp\.sync @": "likewise in the walk of rows that TMA cannot store",
            r"@ not\.pred bra cvta\.param\S* prefetch\.tensormap": "lane 1 may fetch the tensor maps",
        },
    ),
    Mutation("wgmma.fence", HOPPER, r"wgmma\.fence[^;]*;", checks="wgmma"),
    Mutation("wgmma.commit", HOPPER, r"wgmma\.commit_group[^;]*;", checks="wgmma|race|phase"),
    Mutation("wgmma.wait", HOPPER, r"wgmma\.wait_group[^;]*;", checks="wgmma|race|phase"),
    Mutation("acquire", HOPPER, r"\.acquire\.cta\.shared::cta", ".relaxed.cta.shared::cta"),
    Mutation("release", HOPPER, r"mbarrier\.arrive\.shared", "mbarrier.arrive.relaxed.cta.shared"),
]


def _run(artifact: Artifact, sms: int = 2, sizes: dict[str, int] = SIZES, **options: Any) -> None:
    device = EmulatorDevice(sms=sms, order="strict", **options)
    artifact.load_kernel(device)(**random_inputs(artifact.manifest, sizes, seed=0))


@pytest.mark.parametrize(
    ("spec", "mode"),
    [
        pytest.param(BLACKWELL, "immediate", id="sm_100a"),
        pytest.param(HOPPER, "immediate", id="sm_90a"),
        pytest.param(PAIR, "delayed", id="pair-delayed"),
        pytest.param(PAIR, "immediate", id="pair", marks=pytest.mark.slow),
        pytest.param(BLACKWELL, "delayed", id="sm_100a-delayed", marks=pytest.mark.slow),
        pytest.param(HOPPER, "delayed", id="sm_90a-delayed", marks=pytest.mark.slow),
    ],
)
def test_our_kernels_are_ordered(spec: str, mode: str, compiler: Any) -> None:
    _run(compiler.artifact(spec, _target(spec)), mode=mode, seed=2)


SLOW = {"fence before", "cluster fence", "release", "wgmma.wait"}


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(m, marks=pytest.mark.slow if m.name in SLOW else (), id=m.name.replace(" ", "-")) for m in MUTATIONS],
)
def test_one_synchronisation_left_out(mutation: Mutation, compiler: Any) -> None:
    artifact = compiler.artifact(mutation.spec, _target(mutation.spec))
    (name,) = artifact.manifest.modules()
    text = artifact.ptx(name)
    matches = list(re.finditer(mutation.old, text))
    assert matches, "the kernel no longer has this"
    survived: dict[str, str] = {}
    for match in matches:
        changed = text[: match.start()] + match.expand(mutation.new) + text[match.end() :]
        broken = Artifact.build(artifact.manifest, {**artifact.files, f"{name}.ptx": changed.encode()})
        try:
            _run(broken)
            _run(broken, sizes=RAGGED)
        except KernelFault as fault:
            # The last are found in every run, whatever is proved of the order.
            assert re.search(rf"\[({mutation.checks})\]|which a bulk store may still be reading", str(fault)), fault
        else:
            around = _around(text, match)
            named = [place for place in mutation.equivalent if re.search(place, around)]
            line = f"PTX line {text.count(chr(10), 0, match.start()) + 1}: {match[0]} ({around})"
            assert len(named) == 1 and named[0] not in survived, f"survives with no reason of its own: {line}"
            survived[named[0]] = line
    assert survived.keys() == mutation.equivalent.keys(), "a named survivor is caught now, or is no longer there"


def _around(text: str, match: re.Match[str]) -> str:
    """The opcodes of the four instructions on either side of a match, which is @."""
    before, after = _opcodes(text[: match.start()][-2000:]), _opcodes(text[match.end() :][:2000])
    return " ".join([*before[-4:], "@", *after[:4]])


def _opcodes(text: str) -> list[str]:
    return re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s?[^\n]*;", text, re.MULTILINE)


def _target(spec: str) -> str:
    return "sm_90a" if "sm_90a" in spec else "sm_100a"
