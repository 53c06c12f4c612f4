"""Pairs of a plain and a block-scaled operand: taken exactly where the 16-bit type holds every product of a code and a
scale, by trying all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.passes import lower
from fp4cc.passes.feeds.holding import WIDE, Wide, why_not_dequantized
from fp4cc.sema import analyze
from fp4cc.source import Source
from fp4num import FORMATS, BlockFormat, decode, round_to

ELEMENTS = ("e2m1", "e3m2", "e2m3", "e4m3", "e5m2")


def made(element: str, scale: str) -> str:
    """The text of a format."""
    pack = "" if element in ("e4m3", "e5m2") else " pack low_first"
    quantizer = "nvfp4_ct" if scale == "e4m3" else "mx_floor"
    return (
        f"format f {{ element {element}{pack}; scale {scale} per 1 x 32; layout blocked_128x4; quantizer {quantizer} }}"
    )


def spec(element: str, scale: str, plain: str) -> str:
    args = f"in x : {plain}[M, K]; in w : f[N, K]; out y : f32[M, N]"
    return f"{made(element, scale)}\nkernel k(M, N, K) {{ {args}; y = x @ w.T }}"


def held(fmt: BlockFormat, to: Wide) -> bool:
    """Whether every element times every scale, as f32, is a number of the 16-bit type."""
    codes = decode(np.arange(1 << fmt.bits, dtype=np.uint8), fmt.element)
    scales = decode(np.arange(0x7F if fmt.scale == "e4m3" else 0xFF, dtype=np.uint8), str(fmt.scale))
    with np.errstate(all="ignore"):
        values = np.outer(codes, scales).astype(np.float32)
    same = round_to(values, to) == values
    return bool((same | np.isnan(values)).all())


@pytest.mark.parametrize(("element", "scale"), list(product(ELEMENTS, ("e4m3", "e8m0"))))
def test_a_type_holds_a_format_exactly_if_it_holds_every_value(element: str, scale: str) -> None:
    kernel = analyze(Source("k.fp4", spec(element, scale, "bf16")), None).raise_errors().kernels[0]
    fmt = kernel.arg("w").format
    for to in WIDE:
        assert (why_not_dequantized(fmt, to) is None) == held(fmt, to), (element, scale, to)


@pytest.mark.parametrize("target", ["sm_100a", "sm_90a"])
@pytest.mark.parametrize("plain", ["bf16", "f16", "e4m3", "e5m2"])
def test_pairs_are_refused_where_neither_type_holds_them(plain: str, target: str) -> None:
    for element, scale in product(ELEMENTS, ("e4m3", "e8m0")):
        kernel = analyze(Source("k.fp4", spec(element, scale, plain)), None).raise_errors().kernels[0]
        fmt = kernel.arg("w").format
        types: tuple[Wide, ...] = ("f16",) if plain == "f16" else ("bf16",) if plain == "bf16" else ("f16", "bf16")
        wanted = any(held(fmt, to) for to in types)
        try:
            lower(kernel, target)
            taken, codes = True, set[str]()
        except DiagnosticError as refused:
            taken, codes = False, {d.code for d in refused.diagnostics}
        assert taken == wanted, (element, scale)
        assert codes <= {"FP4005" if target == "sm_100a" else "FP4205"}


def test_the_standard_formats_beside_bf16() -> None:
    """The values that bf16 lacks are e4m3's 2^-9 and e5m2's 2^-16 times the smallest e8m0 scales."""
    eight_bit_scales = [fmt for fmt in FORMATS.values() if fmt.scale != "f32"]
    assert {f.name for f in eight_bit_scales if why_not_dequantized(f, "bf16")} == {"mxfp8_e4m3", "mxfp8_e5m2"}
