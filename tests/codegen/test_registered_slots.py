"""A feed of Hopper's multiplying threads that no source file knows: from a stage to a slot, registered and emulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from fp4cc.codegen.feeds.registry import FEED_TEXTS
from fp4cc.codegen.feeds.spec import CallText, FeedCalls, FeedText, Stage
from fp4cc.codegen.fragments import Block, Function, fragment
from fp4cc.codegen.wgmma.places import bytes_name, slot
from fp4cc.ir.lowered import Decision, LoweredKernel, Operand, Scales
from fp4cc.ir.part import Part
from fp4cc.passes import lower
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.passes.feeds.registry import FEEDS
from fp4cc.passes.feeds.spec import Arrival, FeedSpec, Planning, Wanted

from .pipeline import build, parse, run

SPEC = "kernel k(M, N, K) { in a : bf16[M, K]; in b : e4m3[N, K]; out c : f32[M, N]; c = a @ b.T }"
ROW = 64  # bytes of a row in a stage


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A row of e4m3 codes as bf16, by the thread of that number."""

    operand: Operand
    part: Part
    row_bytes: int = ROW
    scaled: bool = False
    loaded_scales: Scales | None = None
    batched: bool = False

    @property
    def kind(self) -> str:
        return "passed_on"

    @property
    def by(self) -> Literal["epilogue"]:
        return "epilogue"

    @property
    def into(self) -> Literal["slot"]:
        return "slot"


def serves(wanted: Wanted, _planning: Planning) -> bool:
    codes = (wanted.operand.element, wanted.to, wanted.rows) == ("e4m3", "bf16", 128)
    return wanted.by == "epilogue" and not wanted.part.scales and not wanted.operand.scaled and codes


def plan(wanted: Wanted, _planning: Planning) -> PassedOn:
    return PassedOn(wanted.operand, wanted.part)


def explain(_feed: PassedOn, arrival: Arrival) -> Decision:
    return Decision(arrival.what, "passed on by the threads", "a thread takes a row")


def calls(feed: PassedOn, stage: Stage) -> FeedCalls:
    """Where the row is, is found before the stage is full."""
    start = f"shared_address({feed.part.buffer}) + stage * {bytes_name(feed.part)}"
    into = f"shared_address(operands) + {slot(stage.lowered, feed.part)}"
    return FeedCalls(
        before=(CallText("passed_row = row_in_stage", (start, "thread")),),
        after=(CallText("pass_on", ("passed_row", into, "thread")),),
    )


def functions(_feed: PassedOn, _lowered: LoweredKernel) -> list[Function]:
    chunk = fragment(
        "chunk = 2 * i + j",
        "shared_store_4_words(slot + row * 128 + ((row & 7 ^ chunk) << 4), pairs[4 * j : 4 * j + 4])",
    )
    words = 'pairs = pairs_of_e4m3(shared_load_4_words(codes + 16 * i), "bf16")'
    body = fragment(Block(f"for i in range({ROW // 16}):", fragment(words, Block("for j in range(2):", chunk))))
    return [
        Function("row_in_stage", ("start", "row"), "Where a row begins.", fragment(f"return start + {ROW} * row")),
        Function("pass_on", ("codes", "slot", "row"), "A row as bf16, in the swizzle that wgmma reads.", body),
    ]


SPECIFIED = FeedSpec("passed_on", serves, plan, explain)
TEXT = FeedText("passed_on", calls, functions)


@pytest.fixture(autouse=True)
def one_engine() -> Iterator[None]:
    """That with slots: another converts weights in registers."""
    with ENGINES.without("wgmma_rs"):
        yield


@pytest.fixture
def registered() -> Iterator[None]:
    with FEEDS.also(SPECIFIED), FEED_TEXTS.also(TEXT):
        yield


@pytest.mark.usefixtures("registered")
def test_a_product_of_what_it_brings_is_the_references() -> None:
    """Edges of M, N and K, and more steps than stages: memory, maps, rings and slots follow from the feed."""
    built = build(SPEC, "sm_90a")
    (mainloop,) = built.lowered.mainloops
    assert [(feed.kind, feed.part.name) for feed in mainloop.slotted] == [("passed_on", "b")]
    assert "pass_on(" in built.python and "e4m3_to_bf16" not in built.python
    said = {decision.what: decision.chosen for decision in built.lowered.decisions}
    assert said["operand b"] == "passed on by the threads"
    for compared in run(built, {"M": 130, "N": 72, "K": 464}):
        assert compared.equal, compared


def test_without_it_the_threads_convert_as_ever() -> None:
    (mainloop,) = lower(parse(SPEC), "sm_90a").mainloops
    assert [feed.kind for feed in mainloop.slotted] == ["converted"]
