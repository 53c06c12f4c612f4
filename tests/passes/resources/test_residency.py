"""No more CTAs on an SM than its tensor memory has columns for: else two pairs of CTAs may wait for each other."""

from __future__ import annotations

import pytest

from fp4cc.codegen.manifest import manifest
from fp4cc.explain.report import as_json, reports, sections
from fp4cc.ir.lowered import LoweredKernel, Tcgen05
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

#: Of a B200, from the CUDA programming guide: shared memory of an SM, what the system takes of it for a CTA, threads,
#: and the columns of tensor memory (PTX ISA, tensor memory).
SM_BYTES, RESERVED, THREADS, COLUMNS = 228 * 1024, 1024, 2048, 512


def lowered(fields: str, args: str = "in a : nvfp4[M, K]; in b : nvfp4[N, K]") -> LoweredKernel:
    text = f"kernel k(M, N, K) {{ {args}; out c : bf16[M, N]; c = a @ b.T }}\nschedule k on sm_100a {{ {fields} }}\n"
    return lower(analyze(Source("k.fp4", text), None).raise_errors().kernels[0], "sm_100a")


def columns(made: LoweredKernel) -> int:
    return made.engine_as(Tcgen05).tmem.columns


def fitting(smem_bytes: int, threads: int) -> int:
    return min(SM_BYTES // (smem_bytes + RESERVED), THREADS // threads)


PLAIN = "in a : bf16[M, K]; in b : bf16[N, K]"
DEQUANTIZED = "in a : bf16[M, K]; in b : nvfp4[N, K]"
PROMOTED = "in a : ds_act[M, K]; in b : ds_weight[N, K]"
CASES = [
    *((f"tile 256 x {n} x 256; cluster 2 x 1; stages {s}", None) for n in (64, 128, 192, 256) for s in (1, 2, 3, 4)),
    *((f"tile 128 x {n} x 256; cluster 1 x 1; stages {s}", None) for n in (64, 128, 192, 256) for s in (1, 2, 3)),
    *((f"tile 128 x {n} x 64; cluster 1 x 1; stages {s}", PLAIN) for n in (64, 256) for s in (1, 3)),
    *((f"tile 256 x {n} x 64; cluster 2 x 1; stages {s}", DEQUANTIZED) for n in (64, 256) for s in (2, 4)),
    ("stages 1", PROMOTED), ("stages 2", PROMOTED), ("stages auto", PROMOTED),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "args"), CASES)
def test_all_ctas_of_an_sm_find_their_columns(fields: str, args: str | None) -> None:
    made = lowered(fields, *([args] if args else []))
    smem, threads = made.smem, made.launch.threads
    assert fitting(smem.asked, threads) * columns(made) <= COLUMNS
    assert smem.asked <= smem.limit
    if smem.padding:
        assert fitting(smem.total, threads) * columns(made) > COLUMNS, "padded where that was not needed"
    assert manifest(made, {}, {}).plan.launches[0].smem == smem.asked


def test_a_pair_with_few_stages_is_padded_and_explain_says_so() -> None:
    """512 columns and 80 KiB: two pairs would fit, and each might get the columns that the other waits for."""
    made = lowered("tile 256 x 256 x 256; cluster 2 x 1; stages 1")
    assert columns(made) == COLUMNS
    assert fitting(made.smem.total, made.launch.threads) > 1
    assert fitting(made.smem.asked, made.launch.threads) == 1
    (decision,) = [d for d in made.decisions if d.what == "CTAs on an SM"]
    assert decision.chosen == "at most 1"
    assert str(made.smem.asked) in decision.why
    (found,) = reports(made, {}, {})
    assert as_json(found)["resources"]["shared_memory"]["asked"] == made.smem.asked  # type: ignore[index]
    rows = dict(dict(sections(found))["resources of one CTA"])
    assert rows["shared memory"].endswith(f", {made.smem.asked} asked for")


def test_what_fills_shared_memory_is_not_padded() -> None:
    made = lowered("tile 256 x 256 x 256; cluster 2 x 1; stages auto")
    assert made.smem.padding == 0
    assert not [d for d in made.decisions if d.what == "CTAs on an SM"]
