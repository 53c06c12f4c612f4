"""Typed kernels built by hand, so that the passes are tested without the front end."""

from __future__ import annotations

from fp4cc.ir.kernel import Arg, Axis, Dim, Kernel, Schedule, Store, Value
from fp4cc.source import Source, Span
from fp4num import FORMATS

_TEXT = "kernel gemm(M, N, K) { in a : nvfp4[M, K]; in b : nvfp4[N, K]; out c : bf16[M, N]; c = a @ b.T }\n"
SOURCE = Source("gemm.fp4", _TEXT)
SPAN = Span(SOURCE, 0, 6)


def gemm(
    a: str = "nvfp4",
    b: str | None = None,
    *,
    out: str = "bf16",
    m: int | None = None,
    n: int | None = None,
    k: int | None = None,
    batch: bool = False,
    shared_b: bool = False,
    schedules: tuple[Schedule, ...] = (),
) -> Kernel:
    """`c = a @ b.T` with the tensor scales applied, dims static where given."""
    b = b or a
    lead = ("L",) if batch else ()
    b_lead = () if shared_b else lead
    dims = tuple(Dim(name, SPAN, value) for name, value in (*((x, None) for x in lead), ("M", m), ("N", n), ("K", k)))
    args = (
        Arg("a", "in", FORMATS[a], _axes(*lead, "M", "K"), SPAN),
        Arg("b", "in", FORMATS[b], _axes(*b_lead, "N", "K"), SPAN),
        Arg("c", "out", out, _axes(*lead, "M", "N"), SPAN),
    )
    values = [
        Value("arg", (), FORMATS[a], (*lead, "M", "K"), SPAN, {"name": "a"}),
        Value("arg", (), FORMATS[b], (*b_lead, "N", "K"), SPAN, {"name": "b"}),
        Value("transpose", (1,), FORMATS[b], (*b_lead, "K", "N"), SPAN),
        Value("matmul", (0, 2), "f32", (*lead, "M", "N"), SPAN),
    ]
    scales = [name for name, fmt in (("a", a), ("b", b)) if FORMATS[fmt].tensor_scale == "multiplies"]
    factors: list[int] = []
    for name in scales:
        values.append(Value("tensor_scale", (), "f32", (), SPAN, {"name": name}))
        factors.append(len(values) - 1)
    product = 3
    if factors:
        factor = factors[0]
        for other in factors[1:]:
            values.append(Value("mul", (factor, other), "f32", (), SPAN))
            factor = len(values) - 1
        values.append(Value("mul", (3, factor), "f32", (*lead, "M", "N"), SPAN))
        product = len(values) - 1
    return Kernel("gemm", dims, args, tuple(values), (Store("c", product, SPAN),), (), schedules, SPAN)


def schedule(when: object = None, **fields: object) -> Schedule:
    """A schedule block: `schedule(tile=(128, 128, 256), cluster=(2, 1))`."""
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in fields.items()}
    return Schedule("sm_100a", when, values, SPAN, {name: SPAN for name in values})  # pyright: ignore[reportArgumentType]


def _axes(*names: str) -> tuple[Axis, ...]:
    return tuple(Axis(name, name) for name in names)
