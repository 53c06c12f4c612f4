"""Launches that overlap: right in any order, proved by the emulator, and mistakes planted in them are found."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4rt import Artifact, KernelFault

from .conftest import Compiler, run_artifact

ELEMENTS = "kernel k(M, N) { in x : bf16[M, N]; out y : bf16[M, N]; y = silu(x) }\n"
ROWS = "kernel k(M, N, K) { in x : bf16[M, K]; in w : nvfp4[N, K]; out q : fp8_token[M, N]; q = quantize(x @ w.T) }\n"


def product(x: str, w: str, y: str = "x @ w.T") -> str:
    return f"kernel k(M, N, K) {{ in x : {x}[M, K]; in w : {w}[N, K]; out y : bf16[M, N]; y = {y} }}\n"


GROUPED = """kernel k(E, R, N, K) {
    in offsets : i32[E + 1]; in x : nvfp4[R by offsets, K]; in w : nvfp4[E, N, K]
    out y : bf16[R by offsets, N]
    y = x @ w.T
}
"""
SHAPE = {"M": 200, "N": 256, "K": 512}
CASES = {
    "elements": (ELEMENTS, "sm_100a", "", {"M": 200, "N": 320}),
    "tcgen05": (product("nvfp4", "nvfp4"), "sm_100a", "tile 256 x 128 x 256; cluster 2 x 1; ", SHAPE),
    "tcgen05 split": (product("mxfp8", "mxfp4"), "sm_100a", "tile 128 x 64 x 128; split_k 3; ", SHAPE),
    "tcgen05 converts": (product("bf16", "nvfp4"), "sm_100a", "", SHAPE),
    "tcgen05 rows": (ROWS, "sm_100a", "", SHAPE),
    "grouped": (GROUPED, "sm_100a", "", {"E": 3, "R": 200, "N": 128, "K": 256}),
    "decode": (product("bf16", "nvfp4"), "sm_90a", "M", {"M": 7, "N": 128, "K": 256}),
    "wgmma split": (product("nvfp4", "nvfp4"), "sm_90a", "convert tile; split_k 2; ", SHAPE),
    "wgmma once": (product("nvfp4", "nvfp4"), "sm_90a", "convert once; ", SHAPE),
    "wgmma rows": (ROWS, "sm_90a", "", SHAPE),
    "wgmma_fp8": (product("fp8_token", "fp8_token", "matmul(x, w.T, accumulate = fast)"), "sm_90a", "", SHAPE),
}  # fmt: skip
#: Emulating wgmma with weights in registers at `strict` faults without this field too.
LOOSE = ("wgmma once", "wgmma rows")


def _text(case: str, how: str) -> tuple[str, str, dict[str, int]]:
    text, target, fields, dims = CASES[case]
    when, fields = ("when M <= 16 ", "") if fields == "M" else ("", fields)
    return f"{text}schedule k on {target} {when}{{ {fields}overlap {how} }}\n", target, dims


@pytest.mark.slow
@pytest.mark.parametrize("how", ["early", "late"])
@pytest.mark.parametrize("case", CASES)
def test_calls_that_overlap_are_right(compiler: Compiler, case: str, how: str) -> None:
    """A call and the same call behind it, judged by the order of their accesses and then side by side."""
    text, target, dims = _text(case, how)
    artifact = compiler.artifact(text, target)
    assert all(launch.dependent for launch in artifact.manifest.launches() if case != "decode")
    if case not in LOOSE:
        assert run_artifact(artifact, order="strict", sms=3, **dims).equal
    for mode, seed in (("immediate", 0), ("delayed", 1), ("delayed", 2)):
        assert run_artifact(artifact, overlap=True, sms=3, mode=mode, seed=seed, **dims).equal  # type: ignore[arg-type]


WAIT = re.compile(r"^ *prims\.griddepcontrol\(prims\.GridDepAction\.WAIT\).*\n", re.MULTILINE)


def _without(text: str) -> str:
    return WAIT.sub("", text)


def _at_the_end(text: str) -> str:
    """The kernel waits before it exits, and nowhere else."""
    start = text.index("@cute.kernel")
    end = text.index("\n\n\n", start)
    return f"{_without(text[:end])}\n    prims.griddepcontrol(prims.GridDepAction.WAIT){text[end:]}"


def _by_one_warp(text: str) -> str:
    """The others do not know."""
    return WAIT.sub("    if warp == 0:\n        prims.griddepcontrol(prims.GridDepAction.WAIT)\n", text)


MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "no wait": (_without, r"\[(race|dependency)\]"),
    "a wait at the end": (_at_the_end, r"\[race\].*of the launch before"),
    "one warp waits": (_by_one_warp, r"\[race\].*of the launch before"),
}


def _broken(compiler: Compiler, text: str, target: str, change: Callable[[str], str], stem: str) -> Artifact:
    lowered = compiler.lowered(text, target)
    files: dict[str, bytes] = {}
    for name, plan in plans(lowered).items():
        python = emit(plan)
        if name == stem:
            python, before = change(python), python
            assert python != before
        files.update({f"{name}.{ending}": data for ending, data in compiler.compile(python, target).items()})
    return Artifact.build(manifest(lowered, {}, {}), files)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize(
    ("case", "stem"), [("tcgen05", "k"), ("tcgen05 split", "k"), ("tcgen05 rows", "k"), ("tcgen05 rows", "k_2"),
                       ("wgmma split", "k")],
)  # fmt: skip
def test_mistakes_are_found(compiler: Compiler, case: str, stem: str, mistake: str) -> None:
    """In the first and in the second launch of a call: each follows another one."""
    change, found = MISTAKES[mistake]
    text, target, dims = _text(case, "late")
    artifact = _broken(compiler, text, target, change, stem)
    with pytest.raises(KernelFault, match=found):
        run_artifact(artifact, order="strict", sms=3, **dims)


@pytest.mark.parametrize("mistake", ["a wait at the end"])
def test_a_write_before_the_wait_is_found(compiler: Compiler, mistake: str) -> None:
    """By a kernel that reads nothing which the launch before writes."""
    change, found = MISTAKES[mistake]
    text, target, dims = _text("elements", "late")
    with pytest.raises(KernelFault, match=found):
        run_artifact(_broken(compiler, text, target, change, "k"), order="strict", sms=3, **dims)
