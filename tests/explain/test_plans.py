"""The table of plans over sizes that `explain` shows, and what `compile` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import fp4cc
from fp4cc.cli.main import cli
from fp4cc.explain.plans import call_time, used_where
from fp4cc.explain.report import reports, sections
from fp4cc.ir.kernel import Expr
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.passes.engines.tcgen05.lower import tcgen05_candidates
from fp4cc.sema import analyze, specialize
from fp4cc.source import Source
from fp4cc.targets import TARGETS
from fp4rt.manifest import loads
from fp4rt.resolve import resolve
from fp4rt.sizes import evaluate

GEMM = "kernel k(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"


def lowered(plans: int = 6, **dims: int) -> LoweredKernel:
    kernel = analyze(Source("k.fp4", GEMM)).raise_errors().kernels[0]
    return lower(specialize(kernel, dims), "sm_100a", plans)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        (None, "where no other plan applies"),
        (("le", "M", 128), "where M <= 128"),
        (
            (
                "or",
                ("le", "M", 16),
                ("and", ("ge", "M", 33), ("le", "M", 64)),
                ("and", ("ge", "M", 70), ("le", "M", 70)),
            ),
            "where M is at most 16, 33 to 64, 70",
        ),
        (("or", ("le", "M", 16), ("le", "N", 16)), "where M <= 16 or N <= 16"),
        (
            ("le", ("mul", *("M" for _ in range(60))), 1),
            "where it is the fastest of them in the model",
        ),
    ],
)
def test_conditions_are_said_so_that_people_read_them(when: Expr | None, said: str) -> None:
    assert used_where(when) == said


def test_the_table_is_what_calls_take(tmp_path: Path) -> None:
    """Each line names the plan that the runtime resolves, its schedule, and a time no better than the roofline."""
    (tmp_path / "k.fp4").write_text(GEMM)
    ran = CliRunner().invoke(cli, ["explain", str(tmp_path / "k.fp4"), "--no-compile", "--json", "--at", "N=4096"])
    assert ran.exit_code == 0, ran.output
    (found,) = json.loads(ran.output)["kernels"]
    from fp4cc.driver import Request, read_spec
    from fp4cc.driver.calls import planned

    ((kernel, manifest),) = planned(Request(read_spec(str(tmp_path / "k.fp4"))))
    lines = found["plans"]
    assert [line["sizes"]["M"] for line in lines] == sorted({line["sizes"]["M"] for line in lines})
    assert len({line["plan"] for line in lines}) > 1
    for line in lines:
        taken = resolve(manifest, line["sizes"]).variant
        assert taken == (f"k_v{line['plan']}" if line["plan"] else "")
        plan = (kernel, *kernel.variants)[line["plan"]]
        assert line["schedule"].startswith(f"{plan.tile.m} x {plan.tile.n} x {plan.tile.k}")
        assert line["time"] >= line["roofline_time"] > 0
    assert found["plan"] == next(line["plan"] for line in lines if line["sizes"]["M"] == found["sizes"]["M"])


def test_a_size_that_is_asked_for_is_a_line_of_its_own() -> None:
    (report,) = reports(lowered(N=4096, K=4096), {"M": 700}, {})
    rows = dict(dict(sections(report))["plans over M, estimated"])
    assert "M = 700" in rows
    assert "roofline" in rows["M = 700"]


def test_one_plan_has_no_table() -> None:
    for plan in (lowered(plans=1), lowered(M=128, N=4096, K=4096)):
        (report,) = reports(plan, {}, {})
        assert report.table is None
        assert call_time(plan, report.sizes) is not None


def test_compile_says_how_large_each_plan_is(tmp_path: Path) -> None:
    (tmp_path / "k.fp4").write_text(GEMM)
    command = ["compile", str(tmp_path / "k.fp4"), "-o", str(tmp_path), "--set", "N=4096", "--set", "K=4096"]
    ran = CliRunner().invoke(cli, command)
    assert ran.exit_code == 0, ran.output
    made = loads((tmp_path / "k.json").read_text())
    assert len(made.variants) > 1
    for name in ("k", *(variant.name for variant in made.variants)):
        size = (tmp_path / f"{name}.cubin").stat().st_size
        assert any(line.startswith(f"{name}.cubin") and f" {size} " in line for line in ran.stderr.splitlines())
    total = sum(path.stat().st_size for path in tmp_path.glob("*.cubin"))
    assert f"{total} bytes of cubin" in ran.stderr
    answer = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert [plan["cubin"] for plan in answer["plans"]["k"]] == [*(f"{v.name}.cubin" for v in made.variants), "k.cubin"]


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
@pytest.mark.parametrize("way", ["--set", "--at"])
def test_the_plans_over_rows_with_their_conditions(
    target: str, way: str, tmp_path: Path, golden: Callable[[Path, str], None]
) -> None:
    """The size of the call is marked; with `--set` the table is of the kernel that leaves it open."""
    (tmp_path / "k.fp4").write_text(GEMM)
    sizes = ["--set", "N=4096", "--set", "K=4096", way, "M=24", "--target", target]
    command = ["explain", str(tmp_path / "k.fp4"), "--no-compile", *sizes]
    ran = CliRunner().invoke(cli, command, env={"COLUMNS": "120"})
    assert ran.exit_code == 0, ran.output
    shown = ran.output[ran.output.index("plans over M") :]
    assert "M = 24 " in next(line for line in shown.splitlines() if line.endswith(" <- this call"))
    golden(Path(__file__).parent / "tables" / f"{target}_{way.strip('-')}.txt", shown)


def test_what_set_fixes_is_the_plan_that_is_shown_and_built(tmp_path: Path) -> None:
    (tmp_path / "k.fp4").write_text(GEMM)
    sizes = ["--set", "M=24", "--set", "N=4096", "--set", "K=4096", "--no-compile", "--json"]
    (found,) = json.loads(CliRunner().invoke(cli, ["explain", str(tmp_path / "k.fp4"), *sizes]).output)["kernels"]
    built = lowered(M=24, N=4096, K=4096)
    assert built.variants == ()
    tile = next(d["chosen"] for d in found["decisions"] if d["what"] == "tile")
    assert tile == f"{built.tile.m} x {built.tile.n} x {built.tile.k}"
    line = next(line for line in found["plans"] if line["sizes"]["M"] == 24)
    assert line["plan"] == found["open_plan"]
    assert line["engine"] == "tcgen05"


def test_where_the_spec_fixes_the_rows_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "k.fp4").write_text(GEMM.replace("k(M,", "k(M = 64,"))
    command = ["explain", str(tmp_path / "k.fp4"), "--no-compile", "--set", "M=24", "--set", "N=256", "--set", "K=256"]
    assert "plans over" not in CliRunner().invoke(cli, command).output


def test_fixed_sizes_get_the_best_plan_of_the_model() -> None:
    """Against every candidate of the same model: also few rows by a pair of CTAs, which loads half of B each."""
    kernel = analyze(Source("k.fp4", GEMM)).raise_errors().kernels[0]
    candidates = tcgen05_candidates(kernel, TARGETS["sm_100a"])
    for sizes in (
        {"M": 12, "N": 1920, "K": 15104}, {"M": 1, "N": 4096, "K": 11520}, {"M": 98, "N": 2048, "K": 5632},
        {"M": 300, "N": 768, "K": 2048}, {"M": 4096, "N": 4096, "K": 4096}, {"M": 6, "N": 15488, "K": 5888},
    ):  # fmt: skip
        legal = [c for c in candidates if c.within is None or evaluate(c.within, sizes)]
        best = min(int(evaluate(c.clocks, sizes)) for c in legal)
        made = lowered(1, **sizes)
        assert made.clocks is not None
        assert int(evaluate(made.clocks, sizes)) <= 1.15 * best, sizes


@pytest.mark.parametrize("plans", [0, -1, 7])
def test_a_number_of_plans_that_no_kernel_has(plans: int) -> None:
    with pytest.raises(fp4cc.RequestError, match="1 to 6 plans"):
        fp4cc.compile(GEMM, plans=plans)


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_parts_of_k_are_no_tiles(target: str) -> None:
    """Tiles are counted by the output, waves by their parts."""
    text = GEMM.replace("a : nvfp4", "a : bf16") + f"schedule k on {target} {{ split_k 4 }}\n"
    kernel = analyze(Source("k.fp4", text)).raise_errors().kernels[0]
    (report,) = reports(lower(specialize(kernel, {"M": 64, "N": 4096, "K": 14336}), target), {}, {})
    rows = dict(dict(sections(report))["cost"])
    tile = report.plan.tile
    assert rows["tiles"].startswith(f"{4096 // tile.n} of {tile.m} x {tile.n}")
    assert rows["tiles"].endswith("each in 4 parts of K")
    assert int(rows["waves"].split(",")[0]) == -(-4 * (4096 // tile.n) // (132 if target == "sm_90a" else 148))
