"""Sizes with names: what they are, when they are found, and what a file may not say of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fp4rt import ArtifactError
from fp4rt.derived import Common, Known, Least, dump_shared, parse_shared
from fp4rt.manifest import loads
from fp4rt.resolve import resolve
from fp4rt.sizes import SizeError, evaluate
from fp4rt.strict import Expr, Node

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"
FOLDS, DIVISIONS = ("add", "mul", "min", "max"), ("floordiv", "ceildiv")


def random_least(draw: random.Random) -> Least:
    columns = {f".{i}": tuple(draw.randrange(1, 1 << draw.choice((3, 12, 40))) for _ in range(9)) for i in range(3)}

    def form(depth: int) -> Expr:
        if not depth or draw.random() < 0.2:
            return draw.choice(["M", "N", *columns, draw.randrange(5)])
        if draw.random() < 0.4:
            return (draw.choice(DIVISIONS), form(depth - 1), draw.choice([*columns, 7]))
        return (draw.choice(FOLDS), *(form(depth - 1) for _ in range(draw.choice((2, 2, 3)))))

    return Least((".a", ".b", ".c"), (4, 1, 4), form(draw.randrange(1, 4)), columns)


def test_each_name_is_the_least_of_its_rows() -> None:
    """Many rows at a time or, where 64 bits might not do, one by one: the same numbers, or the same refusal."""
    draw, refused, large = random.Random(1), 0, 0
    for _ in range(150):
        least = random_least(draw)
        dims = {name: draw.choice((0, 1, draw.randrange(5000), 1 << 20, 1 << 33)) for name in ("M", "N")}
        large += max(dims.values()) > 1 << 20
        known = Known(dims, (least,))
        try:
            every = [int(evaluate(least.form, {**dims, **row})) for row in least.rows()]
        except SizeError:
            refused += 1
            with pytest.raises(SizeError):
                known[".b"]
            continue
        wanted = [min(every[:4]), every[4], min(every[5:])]
        assert [known[".a"], known[".b"], known[".c"]] == wanted, least
        assert all(type(known[name]) is int for name in (".a", ".b", ".c"))
    assert refused > 5
    assert large > 20


def test_a_size_is_found_once_and_only_when_it_is_asked_for() -> None:
    shared = (Common(".bad", ("div", 7, "M")), Common(".good", ("mul", "M", 3)), Common(".more", ("add", ".good", 1)))
    known = Known({"M": 2}, shared)
    assert evaluate(("where", ("lt", "M", 5), ".more", ".bad"), known) == 7
    assert dict(known) == {"M": 2, ".good": 6, ".more": 7}
    with pytest.raises(SizeError, match="remainder"):
        evaluate(".bad", known)
    with pytest.raises(SizeError, match="unknown dimension '.none'"):
        evaluate(("add", ".none", 1), known)


def test_round_trip() -> None:
    shared = (random_least(random.Random(2)), Common(".d", ("add", ".a", "M")))
    assert parse_shared(Node(json.loads(json.dumps(dump_shared(shared)))), ("M", "N")) == shared


LEAST: dict[str, Any] = {"least": [".a"], "rows": [2], "of": ["add", ["ceildiv", "M", ".0"], ".1"],
         "columns": {".0": [1, 2], ".1": [3, 4]}}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [
    ({"least": ["a"]}, "'a' is no new name that begins with a dot"),
    ({"least": [".a", ".a"], "rows": [1, 1]}, "a number of rows for each of several names"),
    ({"least": [], "rows": []}, r"shared\[0\]"),
    ({"rows": [3]}, "expected 3 integers, found 2"),
    ({"rows": [0]}, "0 is outside"),
    ({"of": ["sub", ".0", "M"]}, "'sub' is none of add, mul"),
    ({"of": ["floordiv", 8, "M"]}, "a divisor is a number above 0"),
    ({"of": ["floordiv", 8, 0]}, "a divisor is a number above 0"),
    ({"of": ["add", ".0", -1]}, "a number below 0"),
    ({"of": ["add", ".0", "Q"]}, "unknown size 'Q'"),
    ({"columns": {".0": [0, 2], ".1": [3, 4]}}, "a divisor is a number above 0"),
    ({"columns": {".0": [1, -2], ".1": [3, 4]}}, "-2 is outside"),
    ({"columns": {"M": [1, 2]}}, "names of their own"),
    ({"columns": {}}, "names of their own"),
    ({"more": 1}, "unknown key more"),
])  # fmt: skip
def test_what_a_file_may_not_say(change: dict[str, Any], message: str) -> None:
    parse_shared(Node([LEAST], "shared"), ("M",))
    with pytest.raises(ArtifactError, match=message):
        parse_shared(Node([{**LEAST, **change}], "shared"), ("M",))


@pytest.mark.parametrize(("shared", "message"), [
    ([{"name": ".a", "is": ["add", ".b", 1]}, {"name": ".b", "is": 1}], "unknown size '.b'"),
    ([{"name": ".a", "is": ".a"}], "unknown size '.a'"),
    ([{"name": "M", "is": 3}], "'M' is no new name"),
    ([{"name": ".a", "is": 1}, {"name": ".a", "is": 2}], "'.a' is no new name"),
    ([{"name": f".{i}", "is": 1} for i in range(300)], "at most 256"),
    ([{"name": f".{i}", "is": ["add", f".{i - 1}" if i else 1, 1]} for i in range(200)], "more than 128 deep"),
])  # fmt: skip
def test_names_stand_before_what_uses_them(shared: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        parse_shared(Node(shared, "shared"), ("M",))


def test_plans_may_use_them_and_constraints_may_not() -> None:
    data = json.loads(DATA.read_text())
    plain = loads(json.dumps(data))
    tiles = data["launches"][0]["grid"]["tiles"]
    data["launches"][0]["grid"]["tiles"] = ".t"
    with pytest.raises(ArtifactError, match=r"unknown size '\.t'"):
        loads(json.dumps(data))
    data["shared"] = [{"name": ".t", "is": tiles}]
    dims = {"M": 64, "N": 32}
    assert resolve(loads(json.dumps(data)), dims) == resolve(plain, dims)
    data["constraints"] = [{"expr": ["le", ".t", 9], "text": "", "span": "", "reason": None}]
    with pytest.raises(ArtifactError, match=r"unknown size '\.t'"):
        loads(json.dumps(data))
