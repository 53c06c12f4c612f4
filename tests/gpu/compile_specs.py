"""Compile the examples and the specs beside this file for Hopper: `python tests/gpu/compile_specs.py [SPEC ..]`.

What is compiled goes to tests/gpu/build, in a folder for each spec; `lists.fp4` for lists of problems too. This needs
the compiler; `test_specs.py` and `test_lists.py` need only the runtime, numpy, cuda-python, pytest and a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fp4cc
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver import RequestError
from fp4cc.sema import analyze
from fp4cc.source import Source

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(__file__).resolve().parent / "build"


def kernels(spec: Path) -> list[str]:
    """The names of a spec's kernels."""
    return [kernel.name for kernel in analyze(Source(spec.name, spec.read_text()), spec.parent).raise_errors().kernels]


def main() -> None:
    """Compile each kernel of each spec, or say why it cannot be compiled for this target."""
    ours = [*(ROOT / "examples").rglob("*.fp4"), *BUILD.parent.glob("*.fp4")]
    specs = [Path(name) for name in sys.argv[1:]] or sorted(ours)
    for spec in specs:
        for name in kernels(spec):
            try:
                artifact = fp4cc.compile(spec, target="sm_90a", kernel=name, many=spec.stem == "lists")
            except (DiagnosticError, RequestError) as error:
                print(f"{spec.name}: {name}: not compiled: {error}")
                continue
            artifact.save(BUILD / spec.stem)
            print(f"{spec.name}: {name}: compiled")


if __name__ == "__main__":
    main()
