"""What families of instructions keep of a thread, a warp or a CTA (`fp4emu.state`)."""

from __future__ import annotations

from fp4emu.state import State


class Copies(list[int]):
    pass


class Barriers(dict[int, str]):
    pass


def test_each_family_has_one_object_of_its_class() -> None:
    state = State()
    assert state.find(Copies) is None
    copies = state.of(Copies)
    copies.append(3)
    assert state.of(Copies) is copies is state.find(Copies)
    assert state.of(Barriers) == {} and state.find(Barriers) is not copies


def test_an_empty_object_is_kept() -> None:
    """It is falsy, and still the one that was made first."""
    state = State()
    first = state.of(Copies)
    assert not first and state.of(Copies) is first


def test_owners_do_not_share() -> None:
    assert State().of(Copies) is not State().of(Copies)
