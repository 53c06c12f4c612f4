"""The masks in a kernel file are the plan's: each expression is evaluated for every CTA of the cluster."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.multicast import issuer_text, mask_text, union_text
from fp4cc.ir.lowered import Cluster, LoweredKernel, Tcgen05
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source

CLUSTERS = [(2, 1), (1, 2), (2, 2), (4, 1), (1, 4), (4, 2), (2, 4), (4, 4), (8, 2)]
CASES = [(m, n, c) for m in (128, 256) for n in (64, 192) for c in CLUSTERS if m == 128 or c[0] > 1]


def lowered(m: int, n: int, cluster: tuple[int, int]) -> LoweredKernel:
    fields = f"tile {m} x {n} x 256; cluster {cluster[0]} x {cluster[1]}; stages 2"
    body = "in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T"
    text = f"kernel g(M, N, K) {{ {body} }}\nschedule g on sm_100a {{ {fields} }}\n"
    return lower(analyze(Source("g.fp4", text), None).raise_errors().kernels[0], "sm_100a")


def masks(text: str, call: str, plan: LoweredKernel) -> list[int]:
    """By rank, what the mask of the first call with this text evaluates to (0 where its condition does not hold)."""
    at = re.search(rf"(?:if (cta_. == 0):\s+)?prims\.{call}", text)
    assert at is not None, call
    found = re.search(r"multicast_mask=([^,\n]+?)(?:\)\n|,\s)", text[at.start() : at.start() + 600])
    assert found is not None, call
    width = plan.cluster.m
    names = [{"cta_m": r % width, "cta_n": r // width, "rank": r, "CLUSTER_M": width} for r in range(plan.cluster.size)]
    return [eval(found[1], {}, n) if at[1] is None or eval(at[1], {}, n) else 0 for n in names]  # noqa: S307


@pytest.mark.parametrize(("m", "n", "cluster"), CASES)
def test_masks_of_the_kernel_file_are_those_of_the_plan(m: int, n: int, cluster: tuple[int, int]) -> None:
    made = lowered(m, n, cluster)
    text, group = emit(made), made.engine_as(Tcgen05).mma.cta_group
    leaders = [rank for rank in range(made.cluster.size) if rank % cluster[0] % group == 0]
    for load in made.loads:
        if load.multicast:
            call = rf"cp_async_bulk_tensor_shared_cluster_global\(\s*{load.buffer}\b"
            assert tuple(masks(text, call, made)) == load.masks, load.buffer
    empty = masks(text, r"tcgen05_commit\(\s*ab_empty", made)
    assert [empty[rank] for rank in leaders] == [made.rings.empty_masks[rank] for rank in leaders]
    if group == 2:
        full = masks(text, r"tcgen05_commit\(\s*acc_full", made)
        assert [full[rank] for rank in leaders] == [made.rings.acc_full_masks[rank] for rank in leaders]


def test_another_plan_is_another_kernel_or_none() -> None:
    """A mask of the plan cannot change without the kernel: there is no second place that knows it."""
    made = lowered(256, 192, (4, 2))
    pipeline = made.rings
    everyone = tuple(255 if mask else 0 for mask in pipeline.empty_masks)
    other = replace(made, marked=None, pipeline=replace(pipeline, empty_masks=everyone))
    assert "ab_empty.subview(stage), multicast_mask=0b11111111," in emit(other)
    with pytest.raises(ValueError, match="rows and columns"):
        emit(replace(made, marked=None, pipeline=replace(pipeline, empty_masks=(255, 0, 3, 0, 255, 0, 255, 0))))
    with pytest.raises(ValueError, match="rank"):
        emit(replace(made, marked=None, pipeline=replace(pipeline, acc_full_masks=(3, 0, 3, 0, 3, 0, 3, 0))))


def test_what_no_expression_gives_is_refused() -> None:
    cluster = Cluster(2, 2)
    assert mask_text((5, 10, 5, 10), cluster, "cta_m") == "0b101 << cta_m"
    assert union_text((15, 15, 15, 15), cluster, 1) == "0b1111"
    assert issuer_text((5, 10, 0, 0), cluster) == "cta_n == 0"
    assert issuer_text((3, 3, 3, 3), cluster) is None
    with pytest.raises(ValueError, match="no shift"):
        mask_text((5, 5, 5, 5), cluster, "cta_m")
    with pytest.raises(ValueError, match="no condition"):
        issuer_text((5, 0, 0, 10), cluster)
