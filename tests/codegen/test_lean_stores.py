"""Whole sub-tiles that leave by TMA on sm_100a: a walk of its own, without bounds and without another way to store."""

from __future__ import annotations

import re

import pytest

from fp4cc.backend import resource_usage
from fp4cc.codegen.emit import emit
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze, specialize
from fp4cc.source import Source

from ..e2e.conftest import Compiler

GEMM = "kernel k(M, N, K) {{ in a : {a}[M, K]; in b : {a}[N, K]; out c : {out}[M, N]; c = {value} }}\n"
ON = "schedule k on {} {{ tile {}; cluster 2 x 1 }}\n"
LOOP = re.compile(r"for (?:step|subtile) in cutlass\.range\((\d+), unroll=(\d)\)")


def lowered(value: str = "a @ b.T", out: str = "bf16", target: str = "sm_100a", **dims: int) -> LoweredKernel:
    text = GEMM.format(a="nvfp4", out=out, value=value) + ON.format("sm_100a", "256 x 256 x 256")
    kernel = analyze(Source("k.fp4", text)).raise_errors().kernels[0]
    return lower(specialize(kernel, dims), target)


def walks(text: str) -> list[str]:
    """The loops over a tile's sub-tiles, each up to the next."""
    places = [found.start() for found in LOOP.finditer(text)]
    return [text[a:b] for a, b in zip(places, [*places[1:], len(text)], strict=True)]


@pytest.mark.parametrize("out", ["bf16", "f32", "f16"])
def test_what_may_leave_in_two_ways_has_a_walk_for_each(out: str) -> None:
    text = emit(lowered(out=out))
    fast, slow = walks(text[text.index("# The epilogue warps") :])
    assert "if c_by_tma != 0:" in text
    assert "copy_rows_out" not in fast and "c_by_tma" not in fast and "lane == 0" not in fast
    assert "copy_rows_out" in slow
    assert LOOP.match(fast)[2] == "2" and LOOP.match(slow)[2] == "1"  # type: ignore[index]


def test_what_always_leaves_by_tma_has_one(value: str = "relu(a @ b.T)") -> None:
    text = emit(lowered(value, N=512))
    (fast,) = walks(text[text.index("# The epilogue warps") :])
    assert "copy_rows_out" not in text
    assert LOOP.match(fast)[2] == "2"  # type: ignore[index]


@pytest.mark.parametrize("value", ["gelu(a @ b.T)", "silu(a @ b.T)"])
def test_a_long_epilogue_is_written_once(value: str) -> None:
    text = emit(lowered(value))
    assert len(walks(text[text.index("# The epilogue warps") :])) == 1


def test_all_lanes_wait_for_what_an_elected_one_has_issued() -> None:
    """At the end as well: who is elected is said nowhere but that it is the same one each time."""
    text = emit(lowered(N=512))
    epilogue = text[text.index("# The epilogue warps") : text.index("# No CTA may leave")]
    for line in re.findall(r".*\n.*cp_async_bulk_wait_group\(\d, read=True\)", epilogue):
        assert not line.lstrip().startswith("if "), line


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_instructions_and_registers(compiler: Compiler, fixed: bool) -> None:
    """PTX of the walk for 32 columns of plain bf16, of which ptxas makes 65 instructions or less (docs/epilogue.md)."""
    files = compiler.compile(emit(lowered(N=512) if fixed else lowered()))
    (usage,) = resource_usage(files["cubin"]).values()
    assert usage.registers <= 64
    lines = files["ptx"].decode().splitlines()
    first = next(i for i, line in enumerate(lines) if "tcgen05.ld.sync" in line)
    start = max(i for i in range(first) if lines[i].startswith("$L__"))
    label = lines[start].rstrip(":")
    end = next(i for i in range(first, len(lines)) if re.search(rf"bra(\.uni)?\s+\{label};", lines[i]))
    body = [line for line in lines[start:end] if line.strip().endswith(";") and not line.strip().startswith(".")]
    reads = sum("tcgen05.ld.sync" in line for line in body)
    assert reads == 2
    assert not any("st.global" in line for line in body)
    assert len(body) / reads <= 150


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(tmp_path_factory.mktemp("lean"))
