"""Gathering the diagnostics of a phase, and raising them together."""

from __future__ import annotations

from collections.abc import Iterable

from fp4cc.diagnostics.core import Diagnostic
from fp4cc.diagnostics.render import render


class DiagnosticError(Exception):
    """Raised at the end of a phase that found errors. `diagnostics` holds all of them, in source order."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        """The text that the command line prints: each finding with its line, its marks and its help."""
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
