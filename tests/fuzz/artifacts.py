"""Good artifacts to spoil: hand-made ones, and those of examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fp4cc.driver import Request, artifact_of, build, spec_at
from fp4cc.driver.interpret import interpreted
from fp4cc.driver.request import only_kernel
from fp4rt import Artifact, RuntimeFault, random_inputs
from fp4rt.devices.emulator import EmulatorDevice
from fp4rt.devices.reference import ReferenceDevice

from .limits import bounded

ROOT = Path(__file__).parents[2]
HAND_MADE = ROOT / "tests" / "gpu" / "data" / "scale_shift.json"
#: Example, and sizes that suffice to run every operation of it.
EXAMPLES = {
    "amax.fp4": {},
    "batched.fp4": {},
    "bias_gelu.fp4": {},
    "custom_format.fp4": {},
    "deepseek_linear.fp4": {},
    "dual_gemm.fp4": {},
    "nvfp4_gemm.fp4": {},
    "quantize.fp4": {},
    "svd_linear.fp4": {},
    "swiglu_quantize.fp4": {},
}
#: These are compiled where there is time for it.
COMPILED = ("amax.fp4", "nvfp4_gemm.fp4", "quantize.fp4", "swiglu_quantize.fp4")


@dataclass(frozen=True, slots=True)
class Good:
    """An artifact, its manifest as JSON, and arguments that it runs with."""

    name: str
    artifact: Artifact
    manifest: Any
    arguments: dict[str, Any]


def hand_made() -> Good:
    """The kernel of tests/gpu/data, with PTX and cubin."""
    return _good("scale_shift", Artifact.load(HAND_MADE), {"M": 8, "N": 32})


def typed(example: str) -> Good:
    """An example as the reference runs it, not compiled."""
    artifact = interpreted(_request(example))
    return _good(example, artifact, _small(artifact))


def compiled(example: str) -> Good:
    """An example, compiled."""
    artifact = artifact_of(only_kernel(build(_request(example)).kernels))
    return _good(example, artifact, _small(artifact))


def outcome(path: Path, arguments: dict[str, Any], what: str) -> dict[str, str]:
    """Load, and run on the reference and the emulator. For each step "fine" or the error's code.

    An exception without a code, one of over 5 s and one of over 1 GB fail the test.
    """
    found: dict[str, str] = {}
    with bounded(f"{what}, load"):
        artifact = _step(found, "load", lambda: Artifact.load(path))
    if artifact is None:
        return found
    devices = {
        "reference": lambda: ReferenceDevice(memory_limit=1 << 28, time_limit=2.0),
        "emulator": lambda: EmulatorDevice(memory_limit=1 << 28, time_limit=2.0),
    }
    for name, device in devices.items():
        with bounded(f"{what}, {name}"):
            _step(found, name, lambda device=device: artifact.load_kernel(device())(**arguments))
    with bounded(f"{what}, random inputs"):
        dims = {d.name: 16 for d in artifact.manifest.kernel.dims if d.value is None and d.expr is None}
        _step(found, "inputs", lambda: random_inputs(artifact.manifest, dims))
    return found


def _step(found: dict[str, str], name: str, action: Any) -> Any:
    try:
        result = action()
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str) or not code.startswith("FP6"):
            raise
        found[name] = code
        return None
    found[name] = "fine"
    return result


def _request(example: str) -> Request:
    return Request(spec_at(str(ROOT / "examples" / example)), "sm_100a", {}, None)


def _good(name: str, artifact: Artifact, dims: dict[str, int]) -> Good:
    from fp4rt.manifest import dumps

    arguments = random_inputs(artifact.manifest, dims)
    return Good(name, artifact, json.loads(dumps(artifact.manifest)), arguments)


def _small(artifact: Artifact) -> dict[str, int]:
    """Small sizes that the kernel's constraints permit."""
    from fp4rt.kernel import Kernel

    kernel = Kernel(artifact, "reference")
    free = [d.name for d in artifact.manifest.kernel.dims if d.value is None and d.expr is None]
    for size in (32, 64, 128, 256, 512):
        dims = dict.fromkeys(free, size)
        try:
            kernel.workspace_size(**dims)
        except RuntimeFault:
            continue
        return dims
    raise AssertionError(f"{artifact.manifest.name} runs with no small sizes")
