"""A feed that no source file knows: a plain B by ordinary loads of converter warps, registered and emulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from fp4cc.codegen.feeds.registry import FEED_TEXTS
from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage, members, place_in_stage
from fp4cc.codegen.fragments import Block, Call, Function, fragment
from fp4cc.explain.report import reports, sections
from fp4cc.ir.lowered import Decision, LoweredKernel
from fp4cc.ir.part import Part
from fp4cc.ir.sizes import scaled
from fp4cc.passes import lower
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted

from .pipeline import build, parse, run

SPEC = """
kernel k(M, N, K) {
    in a : bf16[M, K]
    in b : bf16[N, K]
    out c : f32[M, N]
    c = a @ b.T
}
schedule k on sm_100a { tile 128 x 64 x 64; cluster 1 x 1; stages 3 }
"""
#: A lane takes 16 bytes of a row of 128, so a warp four rows at once.
LANES, ROWS = 8, 4


@dataclass(frozen=True, slots=True)
class Copied:
    """A stage's rows by ordinary loads of 16 bytes; names of the pointer and of sizes."""

    name: str
    part: Part
    stage_rows: int
    pointer: str
    rows: str
    pitch: str
    depth: str

    @property
    def kind(self) -> str:
        return "copied"

    @property
    def by(self) -> Literal["convert"]:
        return "convert"

    @property
    def into(self) -> Literal["stage"]:
        return "stage"

    @property
    def how(self) -> str:
        return "copied"

    @property
    def buffer(self) -> str:
        return self.part.buffer

    @property
    def batched(self) -> bool:
        return False

    @property
    def stage_bytes(self) -> int:
        return 128 * self.stage_rows

    @property
    def extent(self) -> int:
        return self.stage_rows

    @property
    def whole_atoms(self) -> bool:
        return False

    @property
    def words(self) -> int:
        return 4 * self.shares

    @property
    def shares(self) -> int:
        return self.stage_rows // ROWS

    @property
    def sizes(self) -> tuple[str, ...]:
        return (self.rows, self.pitch, self.depth)


def serves(wanted: Wanted, _planning: Planning) -> bool:
    plain = not wanted.operand.scaled and wanted.operand.element == wanted.to == "bf16"
    return wanted.by == "convert" and wanted.part == Part("B") and plain


def plan(wanted: Wanted, planning: Planning) -> Copied:
    operand, needs = wanted.operand, planning.needs
    arg = operand.arg
    return Copied(
        name=planning.name(arg),
        part=wanted.part,
        stage_rows=wanted.rows,
        pointer=needs.pointer(f"{arg}_values_ptr", operand.codes, f"{arg}"),
        rows=planning.readers.rows(operand),
        pitch=needs.size(f"{arg}_pitch", scaled(wanted.k, 16, 8), f"bytes of a row of {arg}"),
        depth=needs.size("k_size", wanted.k, "elements along K"),
    )


def explain(feed: Copied, arrival: Arrival) -> Decision:
    return Decision(arrival.what, "copied by converter warps", f"{feed.stage_bytes} bytes a stage")


def calls(feed: Copied, stage: Stage) -> FeedCalls:
    row, chunk = f"lane // {LANES}", f"lane % {LANES}"
    if stage.members > 1:
        row = f"member * {ROWS} + {row}"
    fetched = f"fetched_{feed.name}"
    arguments = (feed.pointer, f"n0 + {row}", f"k_tile * 64 + {chunk} * 8", *feed.sizes)
    return FeedCalls(
        before=(CallText(f"{fetched} = fetch_{feed.name}", arguments),),
        after=(CallText(f"put_{feed.name}", (place_in_stage(feed.part), row, chunk, fetched)),),
    )


def functions(feed: Copied, lowered: LoweredKernel) -> list[Function]:
    step = ROWS * members(lowered)
    address = f"global_address(values_ptr, Int64(row) * {feed.pitch} + k * 2, 1)"
    each = fragment(
        "row = first_row + further",
        f"valid = both(row < {feed.rows}, k < {feed.depth})",
        f"fetched.append(load_words({address}, 4, valid))",
    )
    steps = Block(f"for further in range(0, {feed.stage_rows}, {step}):", each)
    fetch = fragment("fetched = []", steps, "return fetched")
    place = fragment(
        f"at = row + {step} * i",
        Call("shared_store_4_words", ("rows + at * 128 + ((at & 7 ^ chunk) << 4)", "words")),
    )
    put = fragment(Block("for i, words in enumerate(fetched):", place))
    return [
        Function(f"fetch_{feed.name}", ("values_ptr", "first_row", "k", *feed.sizes), "This lane's chunks.", fetch),
        Function(f"put_{feed.name}", ("rows", "row", "chunk", "fetched"), "What was fetched, swizzled.", put),
    ]


SPECIFIED = FeedSpec("copied", serves, plan, explain, lambda feed: float(feed.stage_rows), most_warps=4, most_members=4)
TEXT = FeedText("copied", calls, functions)


@pytest.fixture
def registered() -> Iterator[None]:
    with FEEDS.also(SPECIFIED), FEED_TEXTS.also(TEXT):
        yield


@pytest.mark.usefixtures("registered")
def test_a_product_of_what_it_brings_is_the_references() -> None:
    """Edges of M, N and K, and more steps than stages: the ring counts its warps and no bytes of it."""
    built = build(SPEC)
    (mainloop,) = built.lowered.mainloops
    assert [(load.part.name, load.tx_bytes) for load in mainloop.loads] == [("a", 128 * 128)]
    assert [feed.kind for feed in mainloop.conversions] == ["copied"]
    assert built.lowered.rings.barrier("ab_full").arrivals == 1 + (built.lowered.converters or pytest.fail()).members
    for compared in run(built, {"M": 130, "N": 72, "K": 264}):
        assert compared.equal, compared


@pytest.mark.usefixtures("registered")
def test_explain_knows_it() -> None:
    (report,) = reports(lower(parse(SPEC), "sm_100a"), {"M": 128, "N": 64, "K": 64}, {})
    said = {decision.what: decision.chosen for decision in report.plan.decisions}
    assert (said["operand a"], said["operand b"]) == ("by TMA", "copied by converter warps")
    rows = {title: dict(rows) for title, rows in sections(report)}
    assert rows["pipeline"]["b"] == "into b_smem, 8192 bytes by ordinary loads: copied"


def test_without_it_tma_brings_both() -> None:
    plan = lower(parse(SPEC), "sm_100a")
    assert plan.converters is None
    assert [load.part.name for load in plan.loads] == ["a", "b"]


@pytest.mark.usefixtures("registered")
def test_two_feeds_have_two_kinds() -> None:
    with pytest.raises(ValueError, match="there is a feed copied"), FEEDS.also(SPECIFIED):
        pass
    with pytest.raises(ValueError, match="there is text of the feed copied"), FEED_TEXTS.also(TEXT):
        pass
