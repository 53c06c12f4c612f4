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


class DiagnosticError(Exception):
    """Raised at the end of a phase that found errors. `diagnostics` holds all of them, in source order."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        """The text that the command line prints: each finding with its line, its marks and its help."""
        from fp4cc.diagnostics.render import render

        return render(self.diagnostics).rstrip("\n")

    def __repr__(self) -> str:
        return f"DiagnosticError({'; '.join(map(str, self.diagnostics))})"


class Collector:
    """Gathers the diagnostics of a phase, each once."""

    def __init__(self) -> None:
        self._seen: dict[Diagnostic, None] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep a diagnostic, unless the same one is there already."""
        self._seen.setdefault(diagnostic)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What was found, by file in the order of first finding, then by place."""
        files: dict[str, int] = {}
        for found in self._seen:
            if found.span is not None:
                files.setdefault(found.span.source.name, len(files))

        def place(d: Diagnostic) -> tuple[int, int]:
            return (len(files), 0) if d.span is None else (files[d.span.source.name], d.span.start)

        return tuple(sorted(self._seen, key=place))

    @property
    def failed(self) -> bool:
        """Whether any of them is an error."""
        return any(d.severity == "error" for d in self._seen)

    def raise_errors(self) -> None:
        """Raise DiagnosticError with everything found if any of it is an error."""
        if self.failed:
            raise DiagnosticError(self.diagnostics)
