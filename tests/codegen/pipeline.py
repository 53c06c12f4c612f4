"""From a spec's text to a run on the emulator beside the reference, for the tests of generated code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fp4cc.backend import compile_python
from fp4cc.codegen.emit import emit
from fp4cc.codegen.manifest import manifest, plans
from fp4cc.ir.kernel import Kernel
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes import lower
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4rt import Artifact, random_inputs
from fp4rt.compare import Comparison, compare_outputs

from ..unoptimized import unoptimized


@dataclass(frozen=True)
class Built:
    """A compiled kernel: the lowered form, its Python and PTX (of the plan that always applies), the artifact."""

    lowered: LoweredKernel
    python: str
    ptx: str
    artifact: Artifact


def parse(text: str, name: str | None = None) -> Kernel:
    """The kernel of a spec that has this name, or its first one."""
    checked = analyze(Source("spec.fp4", text)).raise_errors()
    return next(kernel for kernel in checked.kernels if name in (None, kernel.name))


def build(spec: str | Kernel, target: str = "sm_100a") -> Built:
    """Compile a spec."""
    lowered = lower(parse(spec) if isinstance(spec, str) else spec, target)
    files: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for name, plan in plans(lowered).items():
        texts[name] = emit(plan)
        compiled = compile_python(unoptimized(texts[name]), target)
        files[f"{name}.ptx"] = compiled.ptx.encode()
        files[f"{name}.cubin"] = compiled.cubin
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    artifact = Artifact.build(manifest(lowered, hashes, {}), files)
    return Built(lowered, texts[lowered.name], artifact.ptx(), artifact)


def run(
    built: Built, dims: Mapping[str, int], seed: int = 0, device: Any = "emulator", **given: Any
) -> list[Comparison]:
    """Run on an emulator and the reference with the same random inputs, and compare every output."""
    inputs = {**random_inputs(built.artifact.manifest, dims, seed), **given}
    found = built.artifact.load_kernel(device)(**_fresh(built, inputs))
    expected = built.artifact.load_kernel("reference")(**_fresh(built, inputs))
    return list(compare_outputs(built.artifact.manifest, found, expected))


def _fresh(built: Built, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
