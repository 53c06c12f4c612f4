"""A file with the files it uses, and the prelude that every file sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from fp4cc.diagnostics import Collector, DiagnosticError, error
from fp4cc.frontend import ast
from fp4cc.frontend.parse import parse
from fp4cc.resources import grammar_dir, grammar_text
from fp4cc.source import Source, Span

#: Files over this many bytes are refused (FP1009).
MAX_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Program:
    """`modules` in an order where a file comes after those it uses; the last is the one that was asked for.

    `uses[i]` are the `use` items of module i whose file could be read, each with the index of its module.
    """

    modules: tuple[ast.Module, ...]
    uses: tuple[tuple[tuple[ast.Use, int], ...], ...]

    @property
    def main(self) -> ast.Module:
        return self.modules[-1]


@cache
def prelude() -> ast.Module:
    """The standard formats, layouts and functions, parsed once a process."""
    return parse(Source(str(grammar_dir() / "prelude.fp4"), grammar_text("prelude.fp4")))


def read_source(path: Path, name: str, at: Span | None = None) -> Source:
    """A file as a source called `name`. Raises DiagnosticError (FP1008, FP1009, FP2030), blaming `at` if given."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        reason = problem.strerror or "it cannot be read"
        raise DiagnosticError([error("FP2030", f"cannot read `{name}`: {reason}", at, "used here")]) from problem
    return decode(data, name, at)


def decode(data: bytes, name: str, at: Span | None = None) -> Source:
    """Bytes as a source. A byte-order mark is dropped. Raises DiagnosticError for what is not UTF-8 text."""
    if len(data) > MAX_BYTES:
        raise DiagnosticError(
            [
                error(
                    "FP1009",
                    f"`{name}` has more than {MAX_BYTES} bytes",
                    at,
                    "used here",
                    help="a spec of that size is generated: split it into files and `use` them",
                )
            ]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode("utf-8-sig", errors="replace")
        place = Source(name, before + "\ufffd")
        title = f"`{name}` is not UTF-8: byte 0x{data[problem.start]:02X}"
        raise DiagnosticError(
            [
                error(
                    "FP1008",
                    title,
                    Span(place, len(before), len(before) + 1),
                    "this byte is not UTF-8",
                    help="save the file as UTF-8",
                )
            ]
        ) from problem
    return Source(name, text)


def load(source: Source | Path, collector: Collector, folder: Path | None = None) -> Program:
    """A file, or a text, with everything it uses.

    `folder` is where a text's `use` paths start; without one a text cannot use files. Errors go to the collector;
    a file that cannot be read is left out. Raises DiagnosticError only if the first file itself cannot be read.
    """
    if isinstance(source, Path):
        main = read_source(source, str(source))
        folder = source.parent
    else:
        main = source
    loader = _Loader(collector)
    if isinstance(source, Path):
        loader.open.append(source.resolve())
    return loader.program(main, folder)


class _Loader:
    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.modules: list[ast.Module] = []
        self.uses: list[tuple[tuple[ast.Use, int], ...]] = []
        self.done: dict[Path, int | None] = {}
        self.open: list[Path] = []

    def program(self, source: Source, folder: Path | None) -> Program:
        self.add(source, folder)
        return Program(tuple(self.modules), tuple(self.uses))

    def add(self, source: Source, folder: Path | None) -> int:
        module = parse(source, self.collector)
        items = [item for item in module.items if isinstance(item, ast.Use)]
        used = [(item, index) for item in items if (index := self.use(item, folder)) is not None]
        self.modules.append(module if len(used) == len(items) else replace(module, partial=True))
        self.uses.append(tuple(used))
        return len(self.modules) - 1

    def use(self, item: ast.Use, folder: Path | None) -> int | None:
        place = item.path.span
        written = item.path.value
        path = PurePosixPath(written)
        if not written or path.is_absolute() or ".." in path.parts or "\\" in written or "\0" in written:
            self.collector.report(
                error(
                    "FP2031",
                    "a used path is relative and stays in its folder",
                    place,
                    "empty, absolute, or with `..`" if written else "empty",
                    help="put the file beside this one or in a folder below it",
                )
            )
            return None
        if folder is None:
            self.collector.report(
                error(
                    "FP2030",
                    "a spec given as text cannot use files",
                    place,
                    "there is no folder to look in",
                    help="save the spec in a file, or paste what it uses",
                )
            )
            return None
        file = (folder / path).resolve()
        if file in self.open:
            names = " -> ".join(f"`{p.name}`" for p in [*self.open[self.open.index(file) :], file])
            self.collector.report(
                error(
                    "FP2032",
                    "files use each other in a circle",
                    place,
                    f"the circle is {names}",
                    help="move what they share into a third file",
                )
            )
            return None
        if file not in self.done:
            shown = PurePosixPath(place.source.name).parent / path
            try:
                source = read_source(file, str(shown), place)
            except DiagnosticError as problem:
                for diagnostic in problem.diagnostics:
                    self.collector.report(diagnostic)
                self.done[file] = None
                return None
            self.open.append(file)
            self.done[file] = self.add(source, file.parent)
            self.open.pop()
        return self.done[file]
