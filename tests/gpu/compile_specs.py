"""Compile the examples (and any spec named) for Hopper into tests/gpu/build: `python tests/gpu/compile_specs.py`.

Needs the compiler; `test_specs.py` then needs only the runtime, numpy, cuda-python, pytest and a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fp4cc
from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver import RequestError

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(__file__).resolve().parent / "build"


def main() -> None:
    """Compile each spec, or say why it cannot be compiled for this target."""
    specs = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "examples").glob("*.fp4"))
    BUILD.mkdir(exist_ok=True)
    for spec in specs:
        try:
            artifact = fp4cc.compile(spec, target="sm_90a")
        except (DiagnosticError, RequestError) as error:
            print(f"{spec.name}: not compiled: {error}")
            continue
        artifact.save(BUILD)
        print(f"{spec.name}: compiled")


if __name__ == "__main__":
    main()
