"""An engine that no source file knows: a plain f32 product on CUDA cores, registered, compiled and emulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fp4cc.codegen import engines as texts
from fp4cc.codegen.context import SMEM, BufferText, Constant, Frame, frame
from fp4cc.codegen.engines import EngineText
from fp4cc.codegen.epilogue.exchanged import exchanged_reads
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.walking import WalkText, walk_of_exchanged
from fp4cc.diagnostics import DiagnosticError
from fp4cc.explain.report import as_json, reports, sections
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import (
    Cluster,
    Exchange,
    Launch,
    LoweredKernel,
    Mainloop,
    SmemBuffer,
    Tile,
    WarpRole,
)
from fp4cc.ir.sizes import Sizes
from fp4cc.passes import lower
from fp4cc.passes.choice.cases import Bounds, Case
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.engines.spec import EngineSpec, most_rows
from fp4cc.passes.epilogue.plan import plan_epilogue
from fp4cc.passes.feeds.scale_reading import Needs
from fp4cc.passes.problem.roles import multiplies
from fp4cc.passes.problem.unzip import find_products
from fp4cc.passes.resources.params import plan_params, product_sizes
from fp4cc.passes.resources.smem import place_buffers
from fp4cc.passes.resources.walk import plan_walk
from fp4cc.sema import specialize
from fp4cc.targets import CHIPS

from .pipeline import build, parse, run

TILE = Tile(m=128, n=32, k=1, cta_m=128)
EXCHANGE = Exchange("exchange_smem", 4 * (TILE.n + 4), between=False)
SPEC = """
kernel k(M, N, K) {
    in a : f32[M, K]
    in b : f32[N, K]
    in bias : f32[N]
    out c : bf16[M, N]
    out top : f32[]
    s = a @ b.T + bias
    c = s
    top = max(abs(s), over = (M, N))
}
"""


@dataclass(frozen=True, slots=True)
class CudaCores:
    """A thread has a row of the tile; the names are those of the operands' pointers and rows."""

    a: str
    b: str
    a_rows: str
    b_rows: str
    name: str = "cuda_cores"


def accepts(kernel: Kernel, target: str, bounds: Bounds) -> bool:
    products = [value for value in kernel.values if value.op == "matmul"]
    return multiplies(kernel) and all(kernel.values[o].dtype == "f32" for value in products for o in value.operands)


def plan(kernel: Kernel, target: str, cases: Sequence[Case]) -> list[LoweredKernel]:
    return [_plan(kernel, target, case) for case in cases]


def _plan(kernel: Kernel, target: str, case: Case) -> LoweredKernel:
    sizes, needs = Sizes.of(kernel.dims), Needs(kernel.args)
    problem, epilogue_frame = find_products(kernel, sizes, TILE.n)
    epilogue = plan_epilogue(epilogue_frame, sizes, TILE.n)
    walk = plan_walk(problem, TILE, Cluster(1, 1), 0)
    mainloops = (Mainloop(problem.products, TILE.k, (), 0),)
    (a, rows_of_a), (b, rows_of_b) = (
        (needs.pointer(f"{o.arg}_values_ptr", o.codes, f"{o.arg}"), needs.size(f"{o.arg}_rows", rows, f"of {o.arg}"))
        for o, rows in ((problem.a, problem.m), (problem.b, problem.n))
    )
    lengths = (*product_sizes(problem, walk, epilogue.program, mainloops), *needs.lengths())
    params = plan_params(epilogue.tensor_maps, lengths, (*needs.addresses(), *epilogue.params))
    exchanged = SmemBuffer(EXCHANGE.buffer, 0, TILE.cta_m * EXCHANGE.pitch, 1, 16, "sums on their way to the epilogue")
    return LoweredKernel(
        name=kernel.name,
        target=target,
        kernel=kernel,
        schedule=case.schedule,
        when=case.when,
        problem=problem,
        mainloops=mainloops,
        engine=CudaCores(a, b, rows_of_a, rows_of_b),
        tile=TILE,
        cluster=Cluster(1, 1),
        walk=walk,
        roles=(WarpRole("epilogue", 0, 4, "that multiply and run the epilogue"),),
        named_barriers=epilogue.barriers,
        smem=place_buffers((exchanged, *epilogue.staging), CHIPS[target].smem_bytes),
        exchange=EXCHANGE,
        tensor_maps=epilogue.tensor_maps,
        epilogue=epilogue.program,
        launch=Launch(f"{kernel.name}_0", 128, params, lengths),
        constraints=(),
        decisions=(),
    )


@dataclass(frozen=True, slots=True)
class CudaCoresText:
    """What the template of this engine substitutes beside the frame."""

    engine: CudaCores
    warps: int
    walk: WalkText


def context(lowered: LoweredKernel, epilogue: EpilogueText) -> tuple[Frame, CudaCoresText]:
    around = frame(
        lowered,
        epilogue,
        title=f"{lowered.name}: a product on CUDA cores.",
        plan="A row of a tile a thread.",
        constants=[
            [
                Constant("TILE_M", lowered.tile.m),
                Constant("TILE_N", lowered.tile.n),
                Constant("EXCHANGE_PITCH", lowered.crossing.pitch),
            ]
        ],
        spaces=[SMEM],
        buffers=[BufferText.of_bytes(buffer) for buffer in lowered.smem.buffers],
        batched=False,
        band=lowered.walk.band,
    )
    # The template itself has found the row.
    uses = replace(around.uses, row=False)
    reads = exchanged_reads(lowered.epilogue, 1, lowered.tile.n)
    walk = walk_of_exchanged(lowered.epilogue, epilogue, uses, reads)
    return around, CudaCoresText(lowered.engine_as(CudaCores), lowered.role_of("epilogue").warps, walk)


SPECIFIED = EngineSpec("cuda_cores", accepts, plan)
TEXT = EngineText("cuda_cores/gemm.py.j2", context, folder=Path(__file__).parent)


@pytest.fixture
def registered() -> Iterator[None]:
    with ENGINES.also(SPECIFIED), texts.also("cuda_cores", TEXT):
        yield


@pytest.mark.usefixtures("registered")
def test_a_product_on_cuda_cores_is_the_references() -> None:
    """Edges of both tiles, an input by column, a result by TMA and one by atomics: all is the epilogue's own."""
    built = build(SPEC)
    assert isinstance(built.lowered.engine, CudaCores)
    assert "tcgen05" not in built.ptx
    for dims in ({"M": 130, "N": 72, "K": 5}, {"M": 1, "N": 8, "K": 33}):
        for compared in run(built, dims):
            assert compared.equal, (dims, compared)


@pytest.mark.usefixtures("registered")
def test_explain_says_what_it_knows() -> None:
    (report,) = reports(lower(parse(SPEC), "sm_100a"), {"M": 130, "N": 72, "K": 5}, {})
    said = {title: dict(rows) for title, rows in sections(report)}
    assert said["resources of one CTA"]["warps"] == "4 that multiply and run the epilogue"
    assert "compute not known" in said["time, estimated"]["roofline"]
    assert "pipeline" not in said
    assert "'stages'" not in str(as_json(report))


def few_rows(kernel: Kernel, target: str, bounds: Bounds) -> bool:
    return accepts(kernel, target, bounds) and (most_rows(kernel, bounds) or 17) <= 16


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("", False),
        ("where M <= 16", True),
        ("where M < 18", False),
        ("where N <= 16", False),
        ("where M % 2 == 0", False),
    ],
)
def test_an_engine_may_ask_for_few_rows(condition: str, taken: bool) -> None:
    kernel = parse(SPEC.replace("kernel k(M, N, K)", f"kernel k(M, N, K) {condition}"))
    with ENGINES.also(EngineSpec("cuda_cores", few_rows, plan)):
        if taken:
            assert lower(kernel, "sm_100a").engine is not None
            return
        with pytest.raises(DiagnosticError, match="FP4005"):
            lower(kernel, "sm_100a")


def test_an_engine_gets_the_plans_whose_conditions_suit_it() -> None:
    bf16 = SPEC.replace("in a : f32", "in a : bf16").replace("in b : f32", "in b : bf16")
    kernel = parse(bf16 + "schedule k on sm_100a when M <= 16 and N > 32 { }\n")

    def rows(kernel: Kernel, target: str, bounds: Bounds) -> bool:
        return (most_rows(kernel, bounds) or 17) <= 16

    with ENGINES.also(EngineSpec("cuda_cores", rows, plan)):
        lowered = lower(kernel, "sm_100a")
        assert [getattr(p.engine, "name", None) for p in (*lowered.variants, lowered)] == ["cuda_cores", "tcgen05"]
        assert [p.when for p in (*lowered.variants, lowered)] == [("and", ("le", "M", 16), ("gt", "N", 32)), None]
        static = lower(specialize(parse(bf16), {"M": 16}), "sm_100a")
        assert getattr(static.engine, "name", None) == "cuda_cores"


def test_without_it_nothing_multiplies_f32() -> None:
    with pytest.raises(DiagnosticError, match="FP4005"):
        lower(parse(SPEC), "sm_100a")


@pytest.mark.usefixtures("registered")
def test_others_are_left_to_their_engines() -> None:
    found = lower(parse(SPEC.replace("in a : f32", "in a : bf16").replace("in b : f32", "in b : bf16")), "sm_100a")
    assert found.engine is not None
    assert found.engine.name == "tcgen05"


@pytest.mark.usefixtures("registered")
def test_two_engines_have_two_names() -> None:
    with pytest.raises(ValueError, match="there is an engine cuda_cores"), ENGINES.also(SPECIFIED):
        pass
    with pytest.raises(ValueError, match="there is text of the engine"), texts.also("cuda_cores", TEXT):
        pass
