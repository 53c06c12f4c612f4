"""Records what a Hopper GPU does, and compares the emulator with it.

- `python -m tests.silicon build CUBINS` assembles all programs with the ptxas that FP4EMU_PTXAS names.
- `python -m tests.silicon.record CUBINS OUT`, on the GPU's machine, runs them; OUT gets *.bin and index.jsonl.
- `python -m tests.silicon keep OUT ABOUT` makes the files of tests/golden/silicon of them.
- `python -m tests.silicon compare [FAMILY ...]`: the emulator against those files; status 1 if one differs.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import golden
from .emulated import run
from .families import FAMILIES
from .program import HEAD, Program

TOGETHER = 40
"""Entries in a cubin."""


def build(folder: Path) -> None:
    """Cubins of all families, and entries.json, which says where a program's entry is."""
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[str, str]] = {}
    for family, made in FAMILIES.items():
        programs = list(made())
        numbers: dict[str, int] = {}
        for program in programs:
            numbers.setdefault(program.entry("ENTRY"), len(numbers))
        texts = list(numbers)
        for start in range(0, len(texts), TOGETHER):
            source = folder / f"{family}{start // TOGETHER}.ptx"
            part = enumerate(texts[start : start + TOGETHER], start)
            source.write_text(HEAD + "".join(text.replace("ENTRY(", f"e{i}(", 1) for i, text in part))
            ptxas = [os.environ["FP4EMU_PTXAS"], "-arch=sm_90a", "-o", str(source.with_suffix(".cubin")), str(source)]
            subprocess.run(ptxas, check=True)
        for program in programs:
            number = numbers[program.entry("ENTRY")]
            places[program.given()] = f"{family}{number // TOGETHER}.cubin", f"e{number}"
    (folder / "entries.json").write_text(json.dumps(places))


def keep(folder: Path, about: str) -> None:
    """The files of all families that were recorded."""
    found: dict[str, dict[str, tuple[str, bytes]]] = {}
    for line in (folder / "index.jsonl").read_text().splitlines():
        family, _, name, given, file, start, size = json.loads(line)
        packed = (folder / f"{file}.bin").read_bytes()[start : start + size]
        found.setdefault(family, {})[name] = given, zlib.decompress(packed)
    for family, outputs in found.items():
        results: golden.Results = {}
        for program in FAMILIES[family]():
            given, raw = outputs.get(program.name, ("", b""))
            if given != program.given():
                sys.stdout.write(f"{family}: {program.name} was not recorded\n")
                continue
            if program.fill is not None:
                raw = (np.frombuffer(raw, np.uint8) ^ program.fill.view(np.uint8)).tobytes()
            results[program.name] = given, golden.kept(program, raw)
        golden.save(family, about, results)


def compare(families: Sequence[str]) -> int:
    """Lists programs whose results differ."""
    bad = 0
    for family in families or list(FAMILIES):
        recorded = golden.load(family)
        for program in FAMILIES[family]():
            difference = _difference(program, recorded)
            bad += bool(difference)
            sys.stdout.write(f"{family}: {program.name}: {difference}\n" if difference else "")
    sys.stdout.write(f"{bad} programs differ\n")
    return int(bad > 0)


def _difference(program: Program, recorded: golden.Results) -> str:
    given, output = recorded.get(program.name, ("", ""))
    if given != program.given():
        return "not recorded with these inputs"
    found = run(program)
    if golden.same(program, found, output):
        return ""
    if not program.whole:
        return "another digest"
    expected = np.frombuffer(base64.b64decode(output), np.uint8)
    where = np.flatnonzero(np.frombuffer(found, np.uint8) != expected)
    return f"{len(where)} of {len(expected)} bytes, the first at {where[0]}"


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or [""]
    if command == "build" and rest:
        build(Path(rest[0]))
    elif command == "keep" and len(rest) == 2:
        keep(Path(rest[0]), rest[1])
    elif command == "compare":
        sys.exit(compare(rest))
    else:
        sys.stderr.write(__doc__ or "")
        sys.exit(2)
