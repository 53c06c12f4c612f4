"""The order of accesses in our own kernels: proved strictly, and found broken where one synchronisation is left out.

Each mutation is one instruction of the compiled PTX, dropped or replaced. What the emulator's values cannot show
(fences have no effect on them, warps run in lockstep) the proof must.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
SIZES = {"M": 136, "N": 136, "K": 544}


@dataclass(frozen=True)
class Mutation:
    """Each match of `old` is one fault: replaced by `new`, alone. `equivalent`: how many of them change nothing,
    because another fence, wait or barrier covers the same accesses."""

    name: str
    spec: str
    old: str
    new: str = ""
    checks: str = "race|proxy|refill|lanes|tcgen05|alloc|phase|exit|init-fence|wgmma"
    equivalent: int = 0


MUTATIONS = [
    # Two cover nothing of their own: behind tcgen05.alloc, since the warp that allocates issues the MMAs and their
    # commit implies the fence; and before the last barrier, since each warp has fenced its last loads already.
    Mutation("fence before", BLACKWELL, r"tcgen05\.fence::before_thread_sync;", checks="tcgen05|alloc", equivalent=2),
    # The one behind tcgen05.alloc likewise; those behind the MMA warp's two waits stand in for one another.
    Mutation("fence after", BLACKWELL, r"tcgen05\.fence::after_thread_sync;", checks="tcgen05|alloc", equivalent=3),
    Mutation("wait for loads", BLACKWELL, r"tcgen05\.wait::ld[^;]*;", checks="tcgen05"),
    Mutation("bar.warp.sync", BLACKWELL, r"bar\.warp\.sync[^;]*;"),
    Mutation("mbarrier_init", BLACKWELL, r"fence\.mbarrier_init[^;]*;", checks="init-fence"),
    # Waits for accumulators hand over tensor memory, which tcgen05's fences order; nothing follows the last waits.
    Mutation("cluster fence", PAIR, r"fence\.acquire\.sync[^;]*;", equivalent=3),
    Mutation("mbarrier_init of a pair", PAIR, r"fence\.mbarrier_init[^;]*;", checks="init-fence"),
    # Lane 1 may as well initialise the mbarriers, issue all copies, or release an accumulator behind bar.warp.sync; it
    # may not issue the MMAs that lane 0 commits, nor commit those of lane 0.
    Mutation(
        "issuing thread",
        BLACKWELL,
        r"elect\.sync\s+(%r\d+)\|(%p\d+), -1;",
        r"mov.u32 \1, %laneid; setp.eq.u32 \2, \1, 1;",
        equivalent=3,
    ),
    Mutation("wgmma.fence", HOPPER, r"wgmma\.fence[^;]*;", checks="wgmma"),
    Mutation("wgmma.commit", HOPPER, r"wgmma\.commit_group[^;]*;", checks="wgmma|race|phase"),
    Mutation("wgmma.wait", HOPPER, r"wgmma\.wait_group[^;]*;", checks="wgmma|race|phase"),
    Mutation("acquire", HOPPER, r"\.acquire\.cta\.shared::cta", ".relaxed.cta.shared::cta"),
    Mutation("release", HOPPER, r"mbarrier\.arrive\.shared", "mbarrier.arrive.relaxed.cta.shared"),
]


def _run(artifact: Artifact, sms: int = 2, **options: Any) -> None:
    device = EmulatorDevice(sms=sms, order="strict", **options)
    artifact.load_kernel(device)(**random_inputs(artifact.manifest, SIZES, seed=0))


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
    missed: list[str] = []
    for match in matches:
        changed = text[: match.start()] + match.expand(mutation.new) + text[match.end() :]
        broken = Artifact.build(artifact.manifest, {**artifact.files, f"{name}.ptx": changed.encode()})
        try:
            _run(broken)
        except KernelFault as fault:
            assert re.search(rf"\[({mutation.checks})\]", str(fault)), fault
        else:
            missed.append(f"PTX line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}")
    assert len(missed) <= mutation.equivalent, missed


def _target(spec: str) -> str:
    return "sm_90a" if "sm_90a" in spec else "sm_100a"
