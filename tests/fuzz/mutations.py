"""Hostile variants of good JSON and good bytes: every kind of edit at random places, the same for the same seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Path = tuple[Any, ...]


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _nested_sum(depth: int) -> Any:
    value: Any = "M"
    for _ in range(depth):
        value = ["add", value, 1]
    return value


#: What a value of any type may be replaced by.
ALIEN: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64, -(2**63), 10**400,
    0.5, 1.5, -1e308, 1e-320, "", "M", "N", "x", "..", "/etc/passwd", "a\0b", "\ud800", "x" * 10_000, "é", "all",
    [], {}, [[]], [None], ["M"], [["add", 1, 2], 3], ["add"], ["div", 1, 0], ["mul", 2**62, 4], {"a": 1},
    ["where", 1], ["min"], ["neg", "M"], ["sub", "M", 2**40], ["lt", "M", "N"],
)  # fmt: skip
#: Nested more deeply than anything that fp4cc writes.
DEEP: tuple[Callable[[], Any], ...] = (
    lambda: _nested(40),
    lambda: _nested(300),
    lambda: _nested_sum(60),
    lambda: _nested_sum(130),
    lambda: {"a": _nested(300)},
)


@dataclass(frozen=True, slots=True)
class Case:
    """`what` was done, and the text that came of it."""

    what: str
    text: bytes


def paths(value: Any, at: Path = ()) -> list[Path]:
    """The places of a JSON value, outermost first."""
    found = [at]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found.extend(paths(child, (*at, key)))
    return found


def lookup(value: Any, at: Path) -> Any:
    """What is at a place."""
    for key in at:
        value = value[key]
    return value


def mutate_json(rng: random.Random, good: Any, others: list[Any]) -> Case:
    """One to three edits of a JSON value; `others` are good values to take pieces from."""
    data = copy.deepcopy(good)
    done: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = paths(data)[1:]
        if not places:
            break
        at = rng.choice(places)
        parent = lookup(data, at[:-1])
        name = rng.choices(list(_EDITS), [_WEIGHTS.get(edit, 1) for edit in _EDITS])[0]
        _EDITS[name](rng, parent, at[-1], data, others)
        done.append(f"{name} at {'.'.join(map(str, at))}")
    text = json.dumps(data, indent=1).encode()
    if rng.random() < 0.05:
        text, how = mutate_bytes(rng, text)
        done.append(how)
    return Case("; ".join(done), text)


def mutate_bytes(rng: random.Random, good: bytes) -> tuple[bytes, str]:
    """Bits flipped, or a piece cut out, doubled, or overwritten."""
    data = bytearray(good)
    if not data:
        return b"\0", "a byte"
    kind = rng.choice(("flip", "flip", "flips", "cut", "end", "double", "noise", "zero"))
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice((1, 2, 4, 8, 64)))
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 20):
            bit = rng.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        del data[start : start + length]
    elif kind == "end":
        del data[start:]
    elif kind == "double":
        data[start:start] = data[start : start + length]
    else:
        data[start : start + length] = rng.randbytes(length) if kind == "noise" else bytes(length)
    return bytes(data), f"{kind} at byte {start}"


def _delete(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    del parent[key]


def _retype(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    parent[key] = copy.deepcopy(rng.choice(ALIEN))


def _deepen(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    parent[key] = rng.choice(DEEP)()


def _wrap(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    parent[key] = rng.choice(([parent[key]], {"value": parent[key]}, [parent[key], parent[key]]))


def _double(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    else:
        parent[f"{key}_"] = copy.deepcopy(parent[key])


def _many(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    value = parent[key] if isinstance(parent, list) else None
    count = rng.choice((5, 200, 3000))
    if isinstance(parent, list):
        parent.extend(copy.deepcopy(value) for _ in range(count))
    elif isinstance(parent[key], list) and parent[key]:
        parent[key].extend(copy.deepcopy(parent[key][-1]) for _ in range(count))
    else:
        parent[key] = [parent[key]] * count


def _shift(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    value = parent[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        parent[key] = lookup(data, rng.choice(paths(data)[1:])) if value is None else value
        _retype(rng, parent, key, data, others)
    else:
        parent[key] = rng.choice((value + 1, value - 1, value * 2, value * 1000, -value, value // 2, value + 0.5))


def _steal(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    source = rng.choice([data, *others])
    parent[key] = copy.deepcopy(lookup(source, rng.choice(paths(source)[1:])))


def _sibling(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    """Something of the same place in another file, or of the same type elsewhere: what is hardest to see."""
    source = rng.choice([data, *others])
    wanted = type(parent[key])
    alike = [p for p in paths(source)[1:] if isinstance(lookup(source, p), wanted) and p[-1] == key]
    alike = alike or [p for p in paths(source)[1:] if isinstance(lookup(source, p), wanted)]
    if alike:
        parent[key] = copy.deepcopy(lookup(source, rng.choice(alike)))


def _rename(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    if isinstance(parent, dict):
        parent[rng.choice(("", "extra", key.upper(), key + " ", "schema"))] = parent.pop(key)
    else:
        rng.shuffle(parent)


#: Sizes: each can be read, few fit where they are put.
_SIZES: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, "M", "N", ["mul", "M", 3], ["sub", "M", "N"],
    ["div", "M", 3], ["mul", "M", 2**40], ["ceildiv", "M", 7], ["where", ["lt", "M", 8], 1, 2**31], ["neg", "M"],
    ["add", "M", 1], ["mod", "M", 2], ["floordiv", "N", 0],
)  # fmt: skip
_SIZED = ("extent", "tiles", "expr", "workspace", "count", "source", "byte_offset", "when", "group", "k", "value",
          "grid", "dims", "strides", "box", "block", "cluster", "smem", "align", "atom_stride", "stored")  # fmt: skip


def _resize(rng: random.Random, parent: Any, key: Any, data: Any, others: list[Any]) -> None:
    """Another size where there is one: what can be read, so that it is met later."""
    places = [p for p in paths(data) if p and (p[-1] in _SIZED or (len(p) > 1 and p[-2] in _SIZED))]
    if places:
        at = rng.choice(places)
        lookup(data, at[:-1])[at[-1]] = copy.deepcopy(rng.choice(_SIZES))


_EDITS: dict[str, Callable[[random.Random, Any, Any, Any, list[Any]], None]] = {
    "delete": _delete,
    "retype": _retype,
    "deepen": _deepen,
    "wrap": _wrap,
    "double": _double,
    "many": _many,
    "shift": _shift,
    "steal": _steal,
    "sibling": _sibling,
    "rename": _rename,
    "resize": _resize,
}
#: The edits that leave a manifest readable come more often: the others are refused by the first check.
_WEIGHTS = {"shift": 5, "sibling": 6, "resize": 8}
