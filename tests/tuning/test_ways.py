"""Which schedules are tried: the engines' own, ranked by their formulas, and legal as they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.driver import Request, read_spec
from fp4cc.driver.request import RequestError
from fp4cc.driver.stages import lower_kernels, typed_kernels
from fp4cc.explain.work import choose
from fp4cc.ir.kernel import Kernel
from fp4cc.passes.choice.cases import Fields
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.engines.spec import EngineSpec
from fp4cc.tuning.calls import asked_calls, condition
from fp4cc.tuning.outcome import Outcome, document, outcomes
from fp4cc.tuning.ways import Ways
from fp4rt.tuning import Call, Work, parse_work

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = "kernel gemm({dims}) {{ in a : {a}[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }}\n"
GEMM = HEAD.format(dims="M, N, K", a="nvfp4")
W4A16 = HEAD.format(dims="M, N = 4096, K = 4096", a="bf16")


def kernel_of(text: str) -> Kernel:
    (kernel,) = typed_kernels(Request(read_spec(text)))[0]
    return kernel


def ways_of(kernel: Kernel, target: str, *sizes: str, top: int = 3) -> tuple[Ways, list[Call]]:
    ways = Ways(kernel, target, top)
    return ways, [ways.of(asked) for asked in asked_calls(kernel, sizes)]


def test_sizes_speak_for_those_below_down_to_the_next_or_to_half() -> None:
    calls = asked_calls(kernel_of(GEMM), ["M=1,16,24,1024", "N=64,128", "K=64"])
    assert [(c.sizes["M"], c.low, c.high) for c in calls if c.others["N"] == 64] == [
        (1, 0, 1), (16, 8, 16), (24, 16, 24), (1024, 512, 1024),
    ]  # fmt: skip
    assert [c.others["N"] for c in calls] == [64] * 4 + [128] * 4
    assert condition("M", 8, 16, {"K": 64}) == ("and", ("gt", "M", 8), ("le", "M", 16), ("eq", "K", 64))
    assert condition("M", 0, 1, {}) == ("le", "M", 1)
    assert condition("", 0, 0, {}) is None


def test_a_size_of_the_spec_need_not_be_given_and_can_be_another() -> None:
    (call,) = asked_calls(kernel_of(W4A16), ["M=1"])
    assert (dict(call.sizes), dict(call.others)) == ({"M": 1, "N": 4096, "K": 4096}, {})
    (call,) = asked_calls(kernel_of(W4A16), ["M=1", "N=512"])
    assert (dict(call.sizes), dict(call.others)) == ({"M": 1, "N": 512, "K": 4096}, {"N": 512})
    assert call.condition(kernel_of(W4A16)) == ("le", "M", 1)
    with pytest.raises(RequestError, match="derived"):
        asked_calls(kernel_of(HEAD.format(dims="M, N, K, F = N / 2", a="nvfp4")), ["M=1", "N=64", "K=64", "F=1"])


def test_the_first_is_the_compilers_own_and_the_others_are_in_the_models_order() -> None:
    ways, (call,) = ways_of(kernel_of(W4A16), "sm_90a", "M=64")
    own, *others = call.ways
    assert own.fields is None
    assert [way.fields for way in others].count(None) == 0
    models = [way.model or 0.0 for way in others]
    assert all(models)
    assert models == sorted(models)
    assert len({way.artifact for way in call.ways}) == len(call.ways) <= 1 + 3 + 1 + 3
    assert set(ways.plans) == {way.artifact for way in call.ways}
    assert any("split_k" in line for way in others for line in way.fields or ())


def test_few_rows_are_offered_to_the_engine_that_takes_them() -> None:
    _, (call,) = ways_of(kernel_of(HEAD.format(dims="M, N, K", a="bf16")), "sm_90a", "M=16", "N=4096", "K=4096", top=1)
    own, *_ = call.ways  # the compiler's own plan
    assert own.label.startswith("decode")


def test_legality_is_the_engines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_of(HEAD.format(dims="M, N, K", a="bf16"))
    named: list[Fields] = [{"tile": (128, 96, 64)}, {"split_k": (99,)}, {"tile": (128, 128, 64), "split_k": (2,)}]
    (engine,) = [engine for engine in ENGINES.known if engine.name == "wgmma"]
    more = EngineSpec("more", lambda *_: False, engine.plan, blocks=lambda *_: named)
    monkeypatch.setattr(ENGINES, "known", [more])
    assert ENGINES.blocks(kernel, "sm_90a") == [{}, *named]
    monkeypatch.setattr(ENGINES, "known", [more, *(e for e in [engine])])
    monkeypatch.setattr("fp4cc.passes.engines.wgmma.lower.split_blocks", list)
    _, (call,) = ways_of(kernel, "sm_90a", "M=256", "N=256", "K=4096")
    assert {way.fields[:2] for way in call.ways if way.fields} == {("tile 128 x 128 x 64", "split_k 2")}


@pytest.mark.parametrize(
    ("spec", "target", "sizes"),
    [
        pytest.param(GEMM, "sm_90a", ["M=8,300", "N=256", "K=1024"], marks=pytest.mark.slow),
        pytest.param(W4A16, "sm_90a", ["M=1,16,64,300"], marks=pytest.mark.slow),
        pytest.param(GEMM, "sm_100a", ["M=1,300", "N=4096", "K=1024"], marks=pytest.mark.slow),
        pytest.param("mlp_up.fp4", "sm_100a", ["M=16,512", "N=4096", "K=1024"], marks=pytest.mark.slow),
        pytest.param("deepseek_linear.fp4", "sm_90a", ["M=16,512", "N=4096", "K=1024"], marks=pytest.mark.slow),
        pytest.param("moe.fp4", "sm_100a", ["M=512", "N=1024", "K=1024", "E=4"], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_what_is_written_is_the_kernel_that_was_measured(
    spec: str, target: str, sizes: list[str], tmp_path: Path
) -> None:
    """Every way in turn as the best of its call: the spec that takes the file in has the very kernel for it."""
    text = (EXAMPLES / spec).read_text() if spec.endswith(".fp4") else spec
    (kernel, *_) = typed_kernels(Request(read_spec(text)))[0]
    sizes = [size for size in sizes if size.partition("=")[0] in {d.name for d in kernel.dims}]
    ways, calls = ways_of(kernel, target, *sizes)
    work = Work(kernel.name, target, "", {}, tuple(calls))
    assert parse_work(_json(work)) == work
    main = tmp_path / "main.fp4"
    main.write_text('use "main.tuned.fp4"\n' + text.partition("\nschedule")[0] + "\n")
    for turn in range(1, max(len(call.ways) for call in calls)):
        found = [outcome_of(call, min(turn, len(call.ways) - 1)) for call in calls]
        (tmp_path / "main.tuned.fp4").write_text(document("main.fp4", "main.tuned.fp4", work, None, found, ["table"]))
        lowered = lower_kernels(Request(read_spec(main), target, kernel=kernel.name, plans=1))[0][0]
        for one in found:
            taken = choose(lowered, one.call.sizes).plan
            assert taken.schedule is not None, one.best
            assert emit(taken) == emit(ways.plans[one.best.artifact]), one.best


def outcome_of(call: Call, best: int) -> Outcome:
    return Outcome(call, call.ways[0], 2e-6, call.ways[best], 1e-6, len(call.ways))


def _json(work: Work) -> str:
    return json.dumps(work.json())


def test_the_model_alone_writes_what_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one plan for all sizes, which leaves one tile with a long K to one SM."""
    monkeypatch.setattr("fp4cc.tuning.ways.MOST_PLANS", 1)
    ways, calls = ways_of(kernel_of(GEMM), "sm_90a", "M=64", "N=128", "K=16384")
    (one,) = outcomes(Work("gemm", "sm_90a", "", {}, tuple(calls)), None)
    assert one.block
    assert one.own_seconds is not None and one.best_seconds is not None
    assert one.best_seconds * 1.02 < one.own_seconds
    assert set(ways.plans) == {way.artifact for way in one.call.ways}


def test_an_operand_converted_once_is_a_way() -> None:
    """Blocks of both forms on Hopper; the one that converts once is written with its tile."""
    kernel = kernel_of(HEAD.format(dims="M, N = 4096, K = 4096", a="nvfp4"))
    _, (call,) = ways_of(kernel, "sm_90a", "M=2048")
    found = [(way.fields, way.label) for way in call.ways if way.fields is not None]
    assert any("convert once" in fields and any(f.startswith("tile ") for f in fields) for fields, _ in found)
    assert all(("convert once" in fields) == ("converted once" in label) for fields, label in found)
