"""The parameters of the models of time (parameters.toml): a value, how far it may be off, and where it comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """`low` and `high` bound what the value may be; `source` says who measured, published or fitted it."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str


@cache
def parameters(target: str) -> MappingProxyType[str, Parameter]:
    """The parameters of a target by name; KeyError for a target that the file does not have."""
    text = (files("fp4rt.timing") / "parameters.toml").read_text("utf-8")
    table: dict[str, Any] = tomllib.loads(text)[target]
    return MappingProxyType({name: _parameter(name, entry) for name, entry in table.items()})


def _parameter(name: str, entry: dict[str, Any]) -> Parameter:
    value = float(entry["value"])
    low, high = (float(bound) for bound in entry.get("range", (value, value)))
    if not low <= value <= high:
        raise ValueError(f"{name} = {value} is outside of its own range [{low}, {high}]")
    return Parameter(name, value, low, high, entry.get("unit", ""), entry["source"])


def values(target: str) -> dict[str, float]:
    """The values alone, by name."""
    return {name: parameter.value for name, parameter in parameters(target).items()}
