"""What the compiler emits today: PTX, registers, stack and code size of every example and recipe on every target.

    python benchmarks/emitted.py before.json                      write it all to a file
    python benchmarks/emitted.py after.json --against before.json  and list what differs; status 1 if anything does
    python benchmarks/emitted.py x.json --only nvfp4_gemm          only specs with this in their path

A change that should change no kernel shows it by "no difference". Texts are compiled one after the other by one worker
and through the compiler's cache: only what has changed since the last time takes long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fp4cc.backend import kept_worker, resource_usage, toolchain
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.build import build
from fp4cc.driver.request import Request
from fp4cc.driver.spec import Spec
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4cc.targets import NAMES

ROOT = Path(__file__).resolve().parents[1]
_SASS_BYTES = 16  # of an instruction, from sm_70 on
Report = dict[str, dict[str, Any]]


def specs(only: str) -> list[Path]:
    """Examples and recipes, those with `only` in their path."""
    found = sorted([*(ROOT / "examples").glob("*.fp4"), *(ROOT / "examples" / "recipes").glob("*.fp4")])
    return [path for path in found if only in str(path.relative_to(ROOT))]


def emitted(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each kernel of a spec, target and plan: what was emitted, or the codes of its refusal."""
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    kernels = [kernel.name for kernel in analyze(Source(name, text), path.parent).raise_errors().kernels]
    for target in NAMES:
        for kernel in kernels:
            key = f"{name} {kernel} {target}"
            try:
                built = build(Request(Spec(name, text, path.parent), target, kernel=kernel))
            except DiagnosticError as refused:
                yield key, {"refused": sorted({d.code for d in refused.diagnostics})}
                continue
            files = {name: data for made in built.kernels for name, data in (*made.files.items(), *made.python.items())}
            for stem in sorted(file.removesuffix(".ptx") for file in files if file.endswith(".ptx")):
                yield f"{key} {stem}", measured(stem, files)


def measured(stem: str, files: dict[str, bytes]) -> dict[str, Any]:
    """Hashes and counts of one module."""
    ptx = files[f"{stem}.ptx"]
    (usage,) = resource_usage(files[f"{stem}.cubin"]).values()
    return {
        "ptx": hashlib.sha256(ptx).hexdigest(),
        "python": hashlib.sha256(files[f"{stem}.py"]).hexdigest(),
        "registers": usage.registers,
        "stack": usage.stack,
        "ptx_instructions": _instructions(ptx.decode()),
        "sass_instructions": usage.code_bytes // _SASS_BYTES,
    }


def _instructions(ptx: str) -> int:
    """Instructions of PTX: what a semicolon ends, but directives (.reg and the like), as the text of its one entry."""
    body = re.sub(r"//.*|[{}]|\\$\w+:", " ", ptx[ptx.index(".entry") :])
    return sum(1 for statement in body.split(";") if statement.strip() and not statement.strip().startswith("."))


def differences(before: Report, after: Report) -> Iterator[str]:
    """A line for each kernel that is not what it was."""
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            yield f"{key}: {'new' if old is None else 'gone'}"
            continue
        names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
        shown = [name if name in ("ptx", "python") else f"{name} {old.get(name)} -> {new.get(name)}" for name in names]
        if shown:
            yield f"{key}: {', '.join(shown)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the file to write")
    parser.add_argument("--against", type=Path, help="a file written before, to compare with")
    parser.add_argument("--only", default="", help="only specs with this in their path")
    options = parser.parse_args()
    report: Report = {}
    with kept_worker():
        for path in specs(options.only):
            print(path.relative_to(ROOT), file=sys.stderr, flush=True)
            report.update(emitted(path))
    options.output.write_text(json.dumps({"toolchain": toolchain(), "kernels": report}, indent=1) + "\n", "utf-8")
    if options.against is None:
        return 0
    before: dict[str, Any] = json.loads(options.against.read_text("utf-8"))
    if before["toolchain"] != toolchain():
        print(f"the toolchains differ: {before['toolchain']}, now {toolchain()}")
    old = {key: value for key, value in before["kernels"].items() if options.only in key.split()[0]}
    found = list(differences(old, report))
    print("\n".join(found) or f"no difference in {len(report)} modules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
