"""Compile a spec, run its PTX on the emulator, compare with the reference: what every test here does.

Kernels are compiled in this process, so that the DSL is imported once; `fp4cc.compile` itself, with its child process
and its cache, has tests of its own.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, over_lists, plans
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.ir.serialize import to_typed
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.manifest import Manifest, Plan
from fp4rt.trial import Trial, run_trial

from ..unoptimized import unoptimized

Run = Callable[..., Trial]
_numbers = count()


def on_reference(text: str) -> Artifact:
    """The first kernel of a text for the reference device alone: nothing is compiled."""
    kernel = to_typed(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0])
    return Artifact(Manifest(kernel.name, "sm_90a", kernel, Plan(launches=())))


class Compiler:
    """Compiles specs in a scratch folder, each once."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.artifact = cache(self._artifact)

    def lowered(self, text: str, target: str = "sm_100a") -> LoweredKernel:
        """The first kernel of a text, lowered."""
        return lower(analyze(Source("spec.fp4", text), None).raise_errors().kernels[0], target)

    def compile(self, python: str, target: str = "sm_100a") -> dict[str, bytes]:
        """The files of one emitted kernel, by their ending."""
        name = f"kernel{next(_numbers)}"
        path = self._scratch / f"{name}.py"
        path.write_text(python, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before = Path.cwd()
        os.chdir(self._scratch)  # the DSL keeps its files in the folder where it was imported
        try:
            spec.loader.exec_module(module)
            compiled = module.compile(target)
        finally:
            os.chdir(before)
        ptx = compiled.__ptx__
        return {
            "ptx": (ptx.decode() if isinstance(ptx, bytes) else ptx).rstrip("\0").encode(),
            "cubin": compiled.__cubin__,
        }

    def _artifact(self, text: str, target: str = "sm_100a") -> Artifact:
        return self.built(self.lowered(text, target), target)

    def built(self, lowered: LoweredKernel, target: str) -> Artifact:
        """A kernel with all of its plans, compiled."""
        files = {
            f"{name}.{ending}": data
            for name, plan in plans(lowered).items()
            for ending, data in self.compile(unoptimized(emit(plan)), target).items()
        }
        return Artifact.build(manifest(lowered, {}, {}), files)

    def over_lists(self, text: str, target: str = "sm_100a") -> Artifact:
        """A kernel for lists of problems alone: what a call launches is not compiled, and stands there by its name."""
        lowered = replace(self.lowered(text, target), many=True)
        lists = {
            name: self.compile(unoptimized(emit(plan, many=True)), target)["ptx"]
            for name, plan in over_lists(lowered).items()
        }
        calls = {name: lists[f"{name}_many"] for name in plans(lowered)}
        files = {f"{name}.ptx": text for name, text in (*calls.items(), *lists.items())}
        return Artifact.build(manifest(lowered, {}, {}), files)


@pytest.fixture(scope="session")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(tmp_path_factory.mktemp("kernels"))


def run_artifact(
    artifact: Artifact,
    *,
    sms: int = 148,
    mode: Literal["immediate", "delayed"] = "immediate",
    seed: int = 0,
    order: Literal["strict", "default"] | None = None,
    overlap: bool = False,
    **dims: int,
) -> Trial:
    """One run beside the reference.

    `sms` bounds the persistent grid (few SMs: many tiles for each cluster); `mode` and `seed` say when asynchronous
    operations complete. `order`: how strictly the accesses are proved to be ordered. `overlap`: launches that may begin
    before the end of those before them do.
    """
    kernel = artifact.load_kernel(EmulatorDevice(mode=mode, seed=seed, sms=sms, order=order, overlap=overlap))
    inputs = random_inputs(artifact.manifest, dims, seed=seed)
    return run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)


@pytest.fixture(scope="session")
def run() -> Run:
    return run_artifact


@pytest.fixture(scope="session")
def check(compiler: Compiler) -> Callable[..., None]:
    """`check(text, M=.., N=.., ...)`: the emulated kernel's outputs are the reference's, bit for bit."""

    def check_text(text: str, target: str = "sm_100a", **options: object) -> None:
        trial = run_artifact(compiler.artifact(text, target), **options)  # pyright: ignore[reportArgumentType]
        assert trial.equal, trial.comparisons

    return check_text
