"""What an emitted epilogue looks like, and what its PTX may not contain."""

from __future__ import annotations

import re

import pytest

from fp4cc.codegen.emit import emit
from fp4cc.codegen.epilogue.hooks import EpilogueText
from fp4cc.codegen.epilogue.text import emit_epilogue
from fp4cc.codegen.fragments import functions_text, lines
from fp4cc.codegen.library import library
from fp4cc.codegen.names import Names
from fp4cc.marks import spelled_in
from fp4cc.passes import lower

from .pipeline import Built, build, parse, run

MLP_UP = """
kernel mlp_up(M, N, K) where N % 8 == 0 {
    in    x    : nvfp4[M, K]
    in    w    : nvfp4[N, K]
    in    bias : bf16[N]                # broadcasts along M
    in    r    : bf16[M, N]
    param gain : f32 = 1.0
    out   y    : bf16[M, N]
    out   z    : e4m3[M, N]

    h = gelu(gain * (x @ w.T) + bias) + r
    y = h
    z = relu(h) / 2
}
"""


def epilogue(spec: str) -> EpilogueText:
    """The epilogue's text, every name spelled as it was wanted."""
    names = Names()
    return spelled_in(emit_epilogue(lower(parse(spec), "sm_100a"), names), names.wanted)


def test_element_is_the_spec() -> None:
    text = epilogue(MLP_UP)
    assert functions_text(function for function in text.functions if function.name == "element") == (
        "def element(product, gain, scale, bias, r):\n"
        '    """h = gelu(gain * (x @ w.T) + bias) + r\n'
        "    y = h\n"
        "    z = relu(h) / 2\n"
        '    """\n'
        "    h = add(gelu(add(mul(gain, mul(product, scale)), bias)), r)\n"
        "    z = div(relu(h), 2.0)\n"
        "    return h, z"
    )


def test_what_does_not_depend_on_the_element_is_hoisted() -> None:
    text = epilogue(MLP_UP)
    assert "scale = mul(x_scale, w_scale)" in lines(text.kernel, 8)
    assert "load_bf16(global_address(bias_ptr" in lines(text.tile, 12)
    assert "mul(" not in lines(text.subtile, 16)


def test_where_proves_that_tma_may_store() -> None:
    plan = lower(parse(MLP_UP), "sm_100a").epilogue
    assert [output.store.via for output in plan.outputs] == ["tma", "either"]
    # 8 divides N: rows of bf16 start on 16 bytes, those of e4m3 only perhaps.
    subtile = lines(epilogue(MLP_UP).subtile, 16)
    assert "if z_by_tma != 0:" in subtile
    assert subtile.count("copy_rows_out(") == 1


def test_only_used_helpers_are_emitted() -> None:
    text = emit(lower(parse(MLP_UP), "sm_100a"))
    assert "def normal_tail(" in text
    assert "def tanh(" not in text
    assert "def pack_f16(" not in text


def test_every_helper_uses_only_what_the_file_has() -> None:
    for name in library().names():
        text = library().text([name])
        module = compile(text, name, "exec")
        unknown = set(module.co_names) - library().names() - {"cute", "jit", "cutlass"}
        assert not unknown


@pytest.fixture(scope="module")
def product_and_sum() -> Built:
    return build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in bias : f32[N]; in g : f32[M]
    out y : f32[M, N]; out s : f32[M, N]; out t : f32[M, N]
    h = x @ w.T
    y = h * g + bias
    s = sqrt(h) - h / g
    t = tanh(h) + exp(h) * log(h)
}
""")


def test_no_instruction_is_contracted_or_approximate(product_and_sum: Built) -> None:
    floating = re.findall(r"^\s*(?:@\S+ )?((?:add|sub|mul|mad|fma|div|sqrt|rcp|ex2|lg2|tanh|rsqrt|sin|cos)\.\S*f32\S*)",
                          product_and_sum.ptx, re.MULTILINE)  # fmt: skip
    assert floating
    assert {name.split(".")[1] for name in floating} == {"rn"}
    assert not re.search(r"\.(approx|ftz)", product_and_sum.ptx)


def test_zeros_keep_their_signs() -> None:
    built = build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in g : f32[M]
    out y : f32[M, N]; out z : f32[M, N]
    y = where(g > 0, -0.0, x @ w.T)
    z = where(g > 0, 0, x @ w.T)
}
""")
    for comparison in run(built, {"M": 8, "N": 16, "K": 32}):
        assert comparison.equal, str(comparison)


def test_a_product_and_a_sum_stay_two_roundings() -> None:
    built = build("""
kernel k(M, N, K) {
    in x : nvfp4[M, K]; in w : nvfp4[N, K]; in bias : f32[N]; in g : f32[M]
    out y : f32[M, N]
    y = (x @ w.T) * g + bias
}
""")
    assert "fma.rn.f32" not in built.ptx
    # Two columns an instruction.
    assert built.ptx.count("add.rn.f32x2") == built.ptx.count("add.rn.f32") == 16


def test_no_registers_spill(product_and_sum: Built) -> None:
    from fp4cc.backend import compile_python, resource_usage

    (usage,) = resource_usage(compile_python(product_and_sum.python, "sm_100a").cubin).values()
    assert usage.stack == 0
    assert ".local" not in product_and_sum.ptx
