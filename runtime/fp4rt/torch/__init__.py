"""fp4rt with PyTorch: kernels as operators of torch, quantized tensors in modules. Imported only when asked for.

    import fp4rt.torch

    gemm = fp4rt.load("out/nvfp4_gemm.json").as_torch_op("mine::nvfp4_gemm")
    y = gemm(a=fp4rt.quantize(x, "nvfp4"), b=weight)["c"]  # eager, torch.compile, torch.export

Importing it teaches torch what a `Quantized` is: `torch.compile` and `torch.export` take it apart, and
`torch.load(weights_only=True)` reads one. Plain calls of kernels with tensors need none of this.
"""

from __future__ import annotations

from fp4rt.errors import TorchError

try:
    import torch as _torch  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
except ImportError as error:
    raise TorchError(
        "fp4rt.torch needs torch, which is not installed", code="FP6115", help="pip install 'fp4cc[torch]'"
    ) from error

from fp4rt.torch.checkpoints import load_quantized
from fp4rt.torch.convert import convert
from fp4rt.torch.experts import experts
from fp4rt.torch.linear import Linear
from fp4rt.torch.modules import QuantizedBuffer
from fp4rt.torch.operators import Operator, as_op
from fp4rt.torch.parallel import GatheredLinear, RowParallelLinear, gather_rows, parallelize
from fp4rt.torch.qat import FakeQuantize, QatLinear
from fp4rt.torch.quantizing import quantize
from fp4rt.torch.routing import by_expert, combine, route, spread
from fp4rt.torch.tensors import register, typed
from fp4rt.torch.training import TrainingLinear
from fp4rt.torch.unquantized import unquantized

register()

__all__ = [
    "FakeQuantize",
    "GatheredLinear",
    "Linear",
    "Operator",
    "QatLinear",
    "QuantizedBuffer",
    "RowParallelLinear",
    "TrainingLinear",
    "as_op",
    "by_expert",
    "combine",
    "convert",
    "experts",
    "gather_rows",
    "load_quantized",
    "parallelize",
    "quantize",
    "route",
    "spread",
    "typed",
    "unquantized",
]
