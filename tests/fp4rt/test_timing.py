"""The file of parameters: each says where it comes from, and all who estimate read it."""

from __future__ import annotations

import dataclasses

import pytest

from fp4emu.timeline import Rates
from fp4rt.timing import parameters, values

TARGETS = ("sm_90a", "sm_100a")
#: How a source says what its number is.
SOURCES = ("fitted", "published", "assumed", "measured", "as fitted", "as sm_90a", "the same", "not used")


@pytest.mark.parametrize("target", TARGETS)
def test_every_parameter_has_a_range_and_a_source(target: str) -> None:
    for one in parameters(target).values():
        assert one.low <= one.value <= one.high, one.name
        assert len(one.source) > 5, one.name


def test_both_targets_have_what_a_replay_needs() -> None:
    needed = {field.name for field in dataclasses.fields(Rates)}
    for target in TARGETS:
        assert needed <= set(parameters(target)), target


def test_nothing_of_sm_100a_is_said_to_be_measured_by_us() -> None:
    """No kernel of ours has run there."""
    for one in parameters("sm_100a").values():
        assert not one.source.startswith(("fitted", "measured")), one.name


def test_values_are_the_numbers_alone() -> None:
    assert values("sm_90a")["sms"] == 132
    with pytest.raises(KeyError):
        parameters("sm_80")
