"""Text to tree: one file."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

from fp4cc.diagnostics import Collector
from fp4cc.frontend import ast
from fp4cc.frontend.explain import explain
from fp4cc.frontend.parser import BuildError, UnexpectedInput, UnitParser, session
from fp4cc.frontend.units import MAX_TOKENS, RawItem, Unit, split
from fp4cc.source import Source, Span

_HEADS = {
    "use": "use",
    "fn": "function",
    "kernel": "kernel_head",
    "layout": "layout_head",
    "format": "format_head",
    "schedule": "schedule_head",
}
_BODIES = {
    "kernel": "statement",
    "layout": "layout_field",
    "format": "format_field",
    "schedule": "schedule_field",
}
_ITEM_NAME = re.compile(r"\s*\w+\s+([A-Za-z_]\w*)")
_DECLARED = re.compile(r"\s*(?:inout|in|out|param)\s+([A-Za-z_]\w*)")
#: `let h = ...`, `float h = ...`
_ASSIGNED_LATER = re.compile(r"\s*(?:[A-Za-z_]\w*\s+)+([A-Za-z_]\w*)\s*=(?!=)")
_ASSIGNED = re.compile(r"\s*([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*=")


def parse(source: Source, collector: Collector | None = None, most: int = MAX_TOKENS) -> ast.Module:
    """The tree of a file.

    Errors go to `collector`, and what parsed is returned; without a collector they are raised as DiagnosticError. A
    text of more than `most` tokens is not parsed (FP1014).
    """
    found = Collector() if collector is None else collector
    items: list[ast.Item] = []
    broken: set[str] = set()
    raw, strays, tokens, text = split(source, found, most)
    broken.update(token.text for token in strays if token.kind == "word")
    partial = tokens > most or any(token.kind == "string" for token in strays)  # perhaps a `use`
    with session(source, text) as parser:
        for item in raw:
            node = _item(item, _Units(source, parser, found))
            if node is not None:
                items.append(node)
            elif item.keyword == "use":
                partial = True
            elif named := _ITEM_NAME.match(source.text, item.head.start):
                broken.add(named.group(1))
    if collector is None:
        found.raise_errors()
    return ast.Module(source, tuple(items), frozenset(broken), partial, tokens)


class _Units:
    """Parses the units of one source and reports those that do not follow the language."""

    def __init__(self, source: Source, parser: UnitParser, collector: Collector) -> None:
        self.source = source
        self.parser = parser
        self.collector = collector

    def node(self, rule: str, unit: Unit) -> Any:
        """The unit's node, or None after reporting what is wrong."""
        if not unit.sound:
            return None
        try:
            return self.parser.parse(rule, unit.start, unit.end)
        except BuildError as problem:
            self.collector.report(problem.diagnostic)
        except UnexpectedInput as problem:
            self.collector.report(explain(problem, rule, Span(self.source, unit.start, unit.end)))
        return None

    def body(self, rule: str, units: list[Unit]) -> tuple[Any, ...]:
        """The nodes of a block; a unit that does not parse becomes `Broken`."""
        return tuple(self.node(rule, unit) or self.broken(unit) for unit in units)

    def broken(self, unit: Unit) -> ast.Broken:
        text = self.source.text[unit.start : unit.end]
        span = Span(self.source, unit.start, unit.end)
        if named := _DECLARED.match(text):
            return ast.Broken((named.group(1),), span, declares=True)
        if assigned := _ASSIGNED.match(text):
            return ast.Broken(tuple(n.strip() for n in assigned.group(1).split(",")), span)
        if declared := _ASSIGNED_LATER.match(text):
            return ast.Broken((declared.group(1),), span)
        return ast.Broken((), span)


def _item(item: RawItem, units: _Units) -> ast.Item | None:
    head = units.node(_HEADS[item.keyword], item.head)
    if item.keyword not in _BODIES:
        return cast("ast.Item | None", head)
    body = units.body(_BODIES[item.keyword], item.body)
    if head is None:
        return None
    span = Span(units.source, item.head.start, item.end)
    if isinstance(head, ast.Kernel):
        return replace(head, statements=body, span=span)
    if isinstance(head, ast.Layout | ast.Format | ast.Schedule):
        return replace(head, fields=body, span=span)
    raise TypeError(f"not the head of a block: {head!r}")
