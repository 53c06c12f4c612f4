"""The diagnostic itself, and the collector that phases report to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fp4cc.source import Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Label:
    """A span with a remark. The first label of a diagnostic is its place; the others show what it refers to."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    `code` is a key of `codes.CODES`; `title` says what is wrong in one line; `labels` where; `notes` why, with the
    rule's source; `help` the nearest thing that works.
    """

    code: str
    title: str
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    severity: Severity = "error"

    @property
    def span(self) -> Span | None:
        """The place of the finding: its first label's span."""
        return self.labels[0].span if self.labels else None

    def __str__(self) -> str:
        place = f"{self.span}: " if self.span is not None else ""
        return f"{place}{self.severity}[{self.code}]: {self.title}"


def error(
    code: str,
    title: str,
    span: Span | None,
    text: str = "",
    *,
    also: Iterable[tuple[Span, str]] = (),
    notes: Iterable[str] = (),
    help: str | Iterable[str] = (),
) -> Diagnostic:
    """An error at `span`; `also` are further labeled spans. Empty help strings are dropped."""
    labels = ([] if span is None else [Label(span, text)]) + [Label(s, t) for s, t in also]
    helps = (help,) if isinstance(help, str) else tuple(help)
    return Diagnostic(code, title, tuple(labels), tuple(notes), tuple(h for h in helps if h))
