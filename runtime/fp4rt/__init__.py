"""fp4rt: run compiled fp4cc kernels from Python, with numpy and, on a GPU, cuda-python; nothing else is needed.

    kernel = fp4rt.load("out/nvfp4_gemm.json", device="auto")
    outputs = kernel(a=fp4rt.quantize(x, "nvfp4"), b=fp4rt.quantize(w, "nvfp4"))

Names are imported when first used, so that `import fp4rt` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fp4num import BlockFormat, Quantized, decode, dequantize, encode
    from fp4rt import compare
    from fp4rt.artifact import Artifact
    from fp4rt.compare import Comparison
    from fp4rt.errors import (
        ArgumentError,
        ArtifactError,
        CheckpointError,
        ConstraintError,
        DeviceError,
        DimensionError,
        ForkError,
        KernelFault,
        RuntimeFault,
        TorchError,
    )
    from fp4rt.inputs import random_inputs
    from fp4rt.kernel import Bound, Kernel, load
    from fp4rt.manifest import Manifest
    from fp4rt.many import BoundMany
    from fp4rt.quantizing import quantize

    __version__: str

_HOME = {
    "Artifact": "fp4rt.artifact",
    "ArgumentError": "fp4rt.errors",
    "ArtifactError": "fp4rt.errors",
    "BlockFormat": "fp4num",
    "Bound": "fp4rt.kernel",
    "BoundMany": "fp4rt.many",
    "Comparison": "fp4rt.compare",
    "CheckpointError": "fp4rt.errors",
    "ConstraintError": "fp4rt.errors",
    "DeviceError": "fp4rt.errors",
    "DimensionError": "fp4rt.errors",
    "ForkError": "fp4rt.errors",
    "Kernel": "fp4rt.kernel",
    "KernelFault": "fp4rt.errors",
    "Manifest": "fp4rt.manifest",
    "Quantized": "fp4num",
    "RuntimeFault": "fp4rt.errors",
    "TorchError": "fp4rt.errors",
    "decode": "fp4num",
    "dequantize": "fp4num",
    "encode": "fp4num",
    "load": "fp4rt.kernel",
    "quantize": "fp4rt.quantizing",
    "random_inputs": "fp4rt.inputs",
}

__all__ = [
    "ArgumentError",
    "Artifact",
    "ArtifactError",
    "BlockFormat",
    "Bound",
    "BoundMany",
    "CheckpointError",
    "Comparison",
    "ConstraintError",
    "DeviceError",
    "DimensionError",
    "ForkError",
    "Kernel",
    "KernelFault",
    "Manifest",
    "Quantized",
    "RuntimeFault",
    "TorchError",
    "__version__",
    "compare",
    "decode",
    "dequantize",
    "encode",
    "load",
    "quantize",
    "random_inputs",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name == "compare":
        return import_module("fp4rt.compare")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'fp4rt' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def _version() -> str:
    """The version of the distribution, which is fp4cc's; as fp4cc does, a source tree says that it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fp4cc")
    except PackageNotFoundError:
        return "0+uninstalled"


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
