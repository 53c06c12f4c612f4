"""Hand-made kernels and artifacts: no compiler is involved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fp4num import FORMATS, BlockFormat
from fp4rt import Artifact, Kernel
from fp4rt.manifest import Manifest, Plan
from fp4rt.typed import Arg, Axis, Constraint, Dim, Store, TypedKernel, Value

M, N, K = Axis("M", "M"), Axis("N", "N"), Axis("K", "K")
MakeGemm = Callable[..., TypedKernel]


def gemm_kernel(
    a: BlockFormat = FORMATS["nvfp4"],
    b: BlockFormat = FORMATS["nvfp4"],
    out: str = "bf16",
    constraints: tuple[Constraint, ...] = (),
) -> TypedKernel:
    """c = a @ b.T with tensor scales as the checker writes them."""
    args = (Arg("a", "in", a, (M, K)), Arg("b", "in", b, (N, K)), Arg("c", "out", out, (M, N)))
    values = [
        Value("arg", (), a, ("M", "K"), {"name": "a"}),
        Value("arg", (), b, ("N", "K"), {"name": "b"}),
        Value("transpose", (1,), b, ("K", "N")),
        Value("matmul", (0, 2), "f32", ("M", "N"), {"k": "K"}),
    ]
    result = 3
    scaled = [name for name, fmt in (("a", a), ("b", b)) if fmt.tensor_scale]
    if len(scaled) == 2:
        values += [Value("tensor_scale", (), "f32", (), {"name": n}) for n in scaled]
        values += [Value("mul", (4, 5), "f32", ()), Value("mul", (3, 6), "f32", ("M", "N"))]
        result = 7
    dims = (Dim("M"), Dim("N"), Dim("K"))
    return TypedKernel("gemm", dims, args, tuple(values), (Store("c", result),), constraints)


def uncompiled(kernel: TypedKernel) -> Artifact:
    """An artifact that only the reference runs."""
    return Artifact.build(Manifest(kernel.name, "sm_100a", kernel, Plan(())), {})


@pytest.fixture
def gemm() -> TypedKernel:
    return gemm_kernel()


@pytest.fixture
def make_gemm() -> MakeGemm:
    return gemm_kernel


@pytest.fixture
def reference() -> Callable[[TypedKernel], Kernel]:
    """Loads a typed kernel on the reference."""
    return lambda kernel: uncompiled(kernel).load_kernel("reference")
