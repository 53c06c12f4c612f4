"""The fields of a layout or a format, each of which is given once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from fp4cc.diagnostics import Collector, error
from fp4cc.frontend import ast

_F = TypeVar("_F", bound=ast.LayoutField | ast.FormatField)


def given_once(fields: Iterable[_F], names: Mapping[type, str], collector: Collector) -> dict[str, _F]:
    """Fields by name, those that did not parse left out. FP3002 for one that is given again, which does not count."""
    found: dict[str, _F] = {}
    for field in fields:
        if isinstance(field, ast.Broken):
            continue
        name = names[type(field)]
        if name not in found:
            found[name] = field
            continue
        collector.report(
            error(
                "FP3002",
                f"`{name}` is given twice",
                field.span,
                "given again",
                also=[(found[name].span, "first given here")],
                help="keep one of them",
            )
        )
    return found
