"""A file with the files it uses, and the prelude that every file sees."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from fp4cc.diagnostics import Collector, DiagnosticError, error
from fp4cc.files import MAX_BYTES, MAX_FILES, read_limited, used_path
from fp4cc.frontend import ast
from fp4cc.frontend.parse import parse
from fp4cc.frontend.units import MAX_TOKENS
from fp4cc.resources import grammar_dir, grammar_text
from fp4cc.source import Source, Span


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
        data = read_limited(path)
    except (OSError, ValueError) as problem:
        reason = (problem.strerror if isinstance(problem, OSError) else None) or "it cannot be read"
        raise DiagnosticError([error("FP2030", f"cannot read `{name}`: {reason}", at, "used here")]) from problem
    return decode(data, name, at)


def decode(data: bytes, name: str, at: Span | None = None) -> Source:
    """Bytes as a source. A byte-order mark is dropped. Raises DiagnosticError for what is not UTF-8 text."""
    if len(data) > MAX_BYTES:
        raise _too_large(name, at)
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


def _too_large(name: str, at: Span | None) -> DiagnosticError:
    return DiagnosticError(
        [
            error(
                "FP1009",
                f"`{name}` has more than {MAX_BYTES} bytes",
                at,
                "used here",
                help="a spec of that size is generated, or no spec: give each kernel a file of its own",
            )
        ]
    )


def load(source: Source | Path, collector: Collector, folder: Path | None = None) -> Program:
    """A file, or a text, with everything it uses.

    `folder` is where a text's `use` paths start; without one a text cannot use files. Errors go to the collector;
    a file that cannot be read is left out. Raises DiagnosticError only if the first file itself cannot be read, or is
    larger than a spec may be.
    """
    if isinstance(source, Path):
        main = read_source(source, str(source))
        folder = source.parent
    else:
        main = source
        if len(main.text) > MAX_BYTES or len(main.text.encode(errors="replace")) > MAX_BYTES:
            raise _too_large(main.name, None)
    root = None if folder is None else Path(os.path.realpath(folder))
    loader = _Loader(collector, root)
    if isinstance(source, Path):
        loader.open.append(Path(os.path.realpath(source)))
    return loader.program(main)


class _Loader:
    """Reads files in the folder `root`.

    `tokens` is how many more the program may have, `full` that it has too many files.
    """

    def __init__(self, collector: Collector, root: Path | None) -> None:
        self.collector = collector
        self.root = root
        self.modules: list[ast.Module] = []
        self.uses: list[tuple[tuple[ast.Use, int], ...]] = []
        self.done: dict[Path, int | None] = {}
        self.open: list[Path] = []
        self.tokens = MAX_TOKENS
        self.full = False

    def program(self, source: Source) -> Program:
        self.add(source, self.root)
        return Program(tuple(self.modules), tuple(self.uses))

    def add(self, source: Source, folder: Path | None) -> int:
        module = parse(source, self.collector, self.tokens)
        self.tokens -= module.tokens
        items = [item for item in module.items if isinstance(item, ast.Use)]
        used = [(item, index) for item in items if (index := self.use(item, folder)) is not None]
        self.modules.append(module if len(used) == len(items) else replace(module, partial=True))
        self.uses.append(tuple(used))
        return len(self.modules) - 1

    def use(self, item: ast.Use, folder: Path | None) -> int | None:
        """The index of the module that is used; None after reporting why there is none."""
        place = item.path.span
        if folder is None or self.root is None:
            # A text has no folder; what is wrong with the path alone is said all the same.
            if used_path(Path("/"), Path("/"), item.path.value) is None:
                self.leaves_folder(item)
            else:
                self.refuse("FP2030", "a spec given as text cannot use files", place, "there is no folder to look in",
                            help="save the spec in a file, or paste what it uses")  # fmt: skip
            return None
        file = used_path(self.root, folder, item.path.value)
        if file is None:
            self.leaves_folder(item)
            return None
        if file in self.open:
            names = " -> ".join(f"`{p.name}`" for p in [*self.open[self.open.index(file) :], file])
            self.refuse("FP2032", "files use each other in a circle", place, f"the circle is {names}",
                        help="move what they share into a third file")  # fmt: skip
            return None
        if file not in self.done:
            self.done[file] = self.read(file, item)
        return self.done[file]

    def read(self, file: Path, item: ast.Use) -> int | None:
        place = item.path.span
        if len(self.done) >= MAX_FILES:
            if not self.full:
                self.refuse("FP1014", f"this spec uses more than {MAX_FILES} files", place, "one too many",
                            help="put what belongs together into one file")  # fmt: skip
            self.full = True
            return None
        self.done[file] = None
        try:
            source = read_source(file, str(PurePosixPath(place.source.name).parent / item.path.value), place)
        except DiagnosticError as problem:
            for diagnostic in problem.diagnostics:
                self.collector.report(diagnostic)
            return None
        self.open.append(file)
        index = self.add(source, file.parent)
        self.open.pop()
        return index

    def leaves_folder(self, item: ast.Use) -> None:
        written = item.path.value
        path = PurePosixPath(written)
        plain = written and not (path.is_absolute() or ".." in path.parts or "\\" in written or "\0" in written)
        text = "a link on the way leads out of it" if plain else "empty, absolute, or with `..`" if written else "empty"
        self.refuse("FP2031", "a used path is relative and stays in its folder", item.path.span, text,
                    help="put the file beside this one or in a folder below it")  # fmt: skip

    def refuse(self, code: str, title: str, place: Span, text: str, *, help: str) -> None:
        self.collector.report(error(code, title, place, text, help=help))
