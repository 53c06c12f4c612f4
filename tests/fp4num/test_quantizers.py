"""Quantizer rules: the golden case, vectors of other projects' own code, special values, and rules as programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fp4num import (
    FORMATS,
    LAYOUTS,
    RULES,
    BlockFormat,
    DataError,
    FormatError,
    Quantized,
    decode,
    dequantize,
    encode,
    quantize,
    unpack,
)
from fp4num.notation import equations
from fp4num.program import Program
from fp4num.trace import trace

VECTORS = dict(np.load(Path(__file__).parent / "vectors" / "vectors.npz"))
CASES = sorted({name.split(".")[0] for name in VECTORS if "." in name})


def linear(name: str, **change: Any) -> BlockFormat:
    return replace(FORMATS[name], layout=LAYOUTS["linear"], **change)


def golden_row() -> np.ndarray:
    b = np.float32([0.25, -0.75, 1.25, -1.75, 2.5, -3.5, 5, -6, 0.1, -0.3, 0.9, 1.6, -2.2, 2.9, 4.6, 7])
    b = b.astype(ml_dtypes.bfloat16)
    return np.concatenate([b, b * ml_dtypes.bfloat16(0.37)]).astype(np.float32)[None]


def test_golden_case_of_transformer_engine() -> None:
    q = quantize(golden_row(), "nvfp4")
    assert q.codes.tobytes().hex() == "90b2d4f690324c7690b2d4f690325c76"
    assert q.scale_grid().tolist() == [[[0x7E, 0x72]]]
    assert q.scales.shape == (512,)
    assert np.flatnonzero(q.scales).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rule", "scale", "codes"), [("mx_floor", 127, "a0c2e4f690325c76"), ("mx_rceil", 128, "90a1c2d480213a64")]
)
def test_golden_case_of_mx(rule: str, scale: int, codes: str) -> None:
    b = golden_row()[:, :16]
    q = quantize(np.concatenate([b, b], axis=1), "mxfp4", quantizer=rule)
    assert q.codes.tobytes()[:8].hex() == codes
    assert q.scale_grid().item() == scale


def vector_case(name: str) -> tuple[BlockFormat, dict[str, Any]]:
    if name in ("ct_nvfp4", "mo_nvfp4"):
        return linear("nvfp4"), {"quantizer": "nvfp4_ct" if name == "ct_nvfp4" else "nvfp4_modelopt"}
    if name == "ao_nvfp4":
        return linear("nvfp4", tensor_scale=None), {"quantizer": "nvfp4_torchao"}
    if name == "ao_nvfp4_scaled":
        return linear("nvfp4"), {"quantizer": "nvfp4_torchao", "tensor_scale": 0.0123}
    if name.startswith("dg_"):
        fmt = linear("ds_weight" if name == "dg_weight" else "ds_act")
        return replace(fmt, scale="e8m0") if name == "dg_act_ue8m0" else fmt, {}
    if name.startswith("ao_"):
        fmt, mode = name[3:].rsplit("_", 1)
        return linear(fmt), {"quantizer": f"mx_{mode}"}
    if name in ("te_1d", "te_2d"):
        return linear("nvfp4" if name == "te_1d" else "nvfp4_2d"), {}
    rule, rows = name[3:].rsplit("_", 1)
    return linear("nvfp4" if rows == "1" else "nvfp4_2d"), {"quantizer": rule}


@pytest.mark.parametrize("name", CASES)
def test_equals_other_projects_own_code(name: str) -> None:
    """Codes and scales of what vectors/make_vectors.py ran."""
    fmt, arguments = vector_case(name)
    q = quantize(VECTORS["x"], fmt, **arguments)
    np.testing.assert_array_equal(q.scales, VECTORS[f"{name}.scales"])
    ours, theirs = unpack(q.codes, fmt.bits), unpack(VECTORS[f"{name}.codes"], fmt.bits)
    if name.startswith(("te_", "ct_", "mo_")):  # their references lose the sign of some zeros
        minus_zero = 1 << (fmt.bits - 1)
        ours, theirs = (np.where(c == minus_zero, 0, c) for c in (ours, theirs))
    np.testing.assert_array_equal(ours, theirs)


def test_blocked_layout_equals_torchao() -> None:
    scales = VECTORS["blocked_in"][None]
    np.testing.assert_array_equal(LAYOUTS["blocked_128x4"].to_buffer(scales), VECTORS["blocked_out"])


NVFP4_RULES = [name for name, rule in RULES.items() if "e4m3" in rule.scales]
MX_RULES = [name for name in RULES if name.startswith("mx_")]


@pytest.mark.parametrize(
    ("rule", "byte"), [("nvfp4_amax", 0), ("nvfp4_modelopt", 0x38), ("nvfp4_ct", 0x20), ("nvfp4_torchao", 0x08)]
)
def test_scale_byte_of_a_zero_block(rule: str, byte: int) -> None:
    x = np.zeros((2, 32), np.float32)
    x[0, 0] = 5.0
    q = quantize(x, linear("nvfp4"), quantizer=rule)
    assert q.scales.tolist()[1:] == [byte] * 3
    assert not dequantize(q)[1].any()


@pytest.mark.parametrize("rule", NVFP4_RULES)
def test_a_zero_tensor_quantizes_to_zero(rule: str) -> None:
    x = np.zeros((2, 32), np.float32)
    x[0, 1] = -0.0
    q = quantize(x, "nvfp4", quantizer=rule)
    assert float(q.tensor_scale) == 1.0
    assert unpack(q.codes, 4).tolist()[0][:3] == [0, 8, 0]
    assert not dequantize(q).any()


@pytest.mark.parametrize("rule", MX_RULES)
def test_mx_special_values(rule: str) -> None:
    """A zero block has the smallest scale; a NaN poisons the scale, or (rceil) only itself; infinity saturates."""
    x = np.zeros((4, 32), np.float32)
    x[1, 3] = np.nan
    x[2, 4] = -np.inf
    x[3, 5] = 2.0**-149
    q = quantize(x, linear("mxfp8_e4m3"), quantizer=rule)
    assert q.scales.tolist() == [0, 0 if rule == "mx_rceil" else 255, 254 if rule == "mx_rceil" else 247, 0]
    values = dequantize(q)
    assert not values[0].any()
    assert np.isnan(values[1]).all() == (rule != "mx_rceil") and np.isnan(values[1, 3])
    assert unpack(q.codes, 8)[2, 4] == 0xFE  # -448: the largest finite value


@pytest.mark.parametrize("rule", ["nvfp4_amax", "nvfp4_modelopt", "nvfp4_ct", "nvfp4_torchao"])
def test_nan_and_infinity_in_nvfp4(rule: str) -> None:
    """Transformer Engine's maximum passes over a NaN; the rules written in torch make that block's scale NaN."""
    x = np.ones((2, 32), np.float32)
    x[0, 0] = np.nan
    q = quantize(x, linear("nvfp4"), quantizer=rule, amax=1.0)
    assert unpack(q.codes, 4)[0, 0] == 7
    assert (q.scales[0] == 0x7F) == (rule != "nvfp4_amax")
    np.testing.assert_array_equal(dequantize(q)[1], 1)
    x[0, 0] = -np.inf
    q = quantize(x, linear("nvfp4"), quantizer=rule, amax=1.0)
    assert unpack(q.codes, 4)[0, 0] == 0xF
    assert q.scales[0] == 0x7E


@pytest.mark.parametrize("name", ["mxfp4", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp8_e4m3", "mxfp8_e5m2"])
def test_rceil_equals_the_exact_rule_for_every_mantissa(name: str) -> None:
    """2^ceil(log2(amax / max)), on every bf16 mantissa and around the power-of-two multiples of max."""
    largest = FORMATS[name].element_format.max
    mantissas = (np.arange(128, dtype=np.uint32) << 16) + 0x3F800000
    edges = (np.float32(largest).view(np.uint32) + np.arange(-3, 4)).astype(np.uint32)
    amax = np.concatenate([mantissas, edges]).astype(np.uint32).view(np.float32)
    x = np.zeros((amax.size, 32), np.float32)
    x[:, 7] = amax
    codes = quantize(x, linear(name), quantizer="mx_rceil").scales
    with np.errstate(divide="ignore"):
        mantissa, exponent = np.frexp(amax.astype(np.float64) / largest)  # exact enough: within 2^-52
    np.testing.assert_array_equal(codes, np.where(mantissa == 0.5, exponent - 1, exponent) + 127)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25)
@given(data=st.data())
def test_properties_of_every_format(name: str, data: st.DataObject) -> None:
    """Shapes and sizes are the format's; values on the grid come back; a block does not depend on its neighbors."""
    fmt = FORMATS[name]
    wide = 64 if fmt.block[1] == "all" else fmt.block[1]
    batch = data.draw(st.integers(0, 2))
    rows, blocks = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 3))
    shape = (batch, rows, blocks * wide) if data.draw(st.booleans()) else (rows, blocks * wide)
    seed = data.draw(st.integers(0, 2**32 - 1))
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    q = quantize(x, fmt)
    assert q.codes.shape == fmt.codes_shape(shape) and q.codes.dtype == np.uint8
    assert q.scales.shape == (fmt.scales_size(shape),)
    back = dequantize(q)
    assert back.shape == shape and back.dtype == np.float32
    if not x.size:
        return
    step = np.abs(x).max() * (0.6 if fmt.element == "e2m1" else 0.15)
    assert np.abs(back - x).max() <= step
    rebuilt = Quantized.from_parts(q.codes, q.scales, q.tensor_scale, fmt, shape)
    np.testing.assert_array_equal(dequantize(rebuilt), back)
    if len(shape) == 3:
        for b in range(batch):
            owner = x[b] if fmt.each_batch else x
            extra = {} if q.tensor_scale is None else {"amax": np.abs(owner).max()}
            np.testing.assert_array_equal(quantize(x[b], fmt, **extra).codes, q.codes[b])


def test_2d_blocks_of_the_transpose_are_the_transpose() -> None:
    x = np.random.default_rng(5).standard_normal((64, 96)).astype(np.float32)
    q, qt = quantize(x, "nvfp4_2d"), quantize(np.ascontiguousarray(x.T), "nvfp4_2d")
    np.testing.assert_array_equal(unpack(q.codes, 4).T, unpack(qt.codes, 4))
    np.testing.assert_array_equal(dequantize(q).T, dequantize(qt))
    grid = q.scale_grid()[0]
    assert grid.shape == (64, 6)
    np.testing.assert_array_equal(grid[::16].repeat(16, axis=0), grid)


def test_blocks_at_a_ragged_edge_take_what_rows_there_are() -> None:
    x = np.random.default_rng(6).standard_normal((150, 256)).astype(np.float32)
    q = quantize(x, "ds_weight")
    assert q.scales.shape == (4,)
    wanted = [np.abs(x[r : r + 128, c : c + 128]).max() for r in (0, 128) for c in (0, 128)]
    np.testing.assert_array_equal(q.scales, np.float32(wanted) / np.float32(448))
    np.testing.assert_array_equal(quantize(x[128:], "ds_weight").codes, q.codes[128:])


def test_absmax_with_given_scales() -> None:
    x = np.float32([[1, -2, 3, 4], [0, 0, 0, 900]])
    q = quantize(x, "fp8_token", scale=np.float32([0.5, 2.0]))
    assert q.scales.tolist() == [0.5, 2.0]
    np.testing.assert_array_equal(dequantize(q), np.float32([[1, -2, 3, 4], [0, 0, 0, 896]]))
    same = quantize(x, "fp8_token", scale=0.5)
    assert same.scales.tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(dequantize(quantize(x, "fp8_token", scale=0.0)), 0)


def test_absmax_on_sm100_rounds_the_scale_up_to_a_power_of_two() -> None:
    fmt = linear("mxfp8_e4m3", block=(1, 128), stored=(1, 128), quantizer="absmax")
    x = np.float32([[448.0] + [1.0] * 127, [449.0] + [1.0] * 127, [0.0] * 128])
    q = quantize(x, fmt)
    assert q.scales.tolist() == [127, 128, int(np.ceil(np.log2(1e-4 / 448))) + 127]


@pytest.mark.parametrize("name", ["nvfp4_4over6_mae", "nvfp4_4over6_mse"])
def test_four_over_six_is_never_worse_than_its_six(name: str) -> None:
    x = np.random.default_rng(8).standard_normal((64, 256)).astype(np.float32)
    base, better = quantize(x, linear("nvfp4")), quantize(x, linear("nvfp4"), quantizer=name)
    power = 2 if name.endswith("mse") else 1

    def error(q: Quantized) -> np.ndarray:
        return (np.abs(dequantize(q) - x).astype(np.float64) ** power).reshape(-1, 16).sum(axis=1)

    four = base.scales != better.scales
    assert 0.1 < four.mean() < 0.9
    assert (error(better) <= error(base) * (1 + 1e-5)).all()
    saturated = four & (base.scales > encode(np.float32(448 / 1.5), "e4m3"))
    assert (better.scales[saturated] == 0x7E).all()


def test_quest_scale_follows_the_standard_deviation() -> None:
    x = np.random.default_rng(9).standard_normal((256, 64)).astype(np.float32)
    q = quantize(x, linear("mxfp4"), quantizer="quest_mxfp4")
    std = x.reshape(-1, 32).astype(np.float64).std(axis=1)
    wanted = np.floor(np.log2(std * 2.92247856 / 6 + 1e-8)) + 127
    assert (q.scales == wanted).mean() > 0.999  # float32 sums may differ next to a power of two


def test_quartet_stochastic_is_unbiased_at_three_quarters() -> None:
    x = np.random.default_rng(10).standard_normal((1, 32)).astype(np.float32)
    total = np.zeros_like(x, np.float64)
    for step in range(800):
        total += dequantize(quantize(x, "mxfp4", quantizer="quartet_stochastic", rounding="stochastic", rng=(1, step)))
    assert np.abs(total / 800 / 0.75 - x).max() < 0.12
    assert np.abs(unpack(quantize(x, "mxfp4", quantizer="quartet_stochastic").codes, 4) & 7).max() <= 7


@pytest.mark.parametrize("sense", ["multiplies", "divides"])
@pytest.mark.parametrize("rule", NVFP4_RULES)
def test_tensor_scale_senses_are_explicit(sense: str, rule: str) -> None:
    """Both conventions hold the same tensor; a power-of-two scale is exact in both."""
    x = np.random.default_rng(11).standard_normal((8, 64)).astype(np.float32)
    fmt = linear("nvfp4", tensor_scale=sense)
    scale = 2.0**-9 if sense == "multiplies" else 2.0**9
    q = quantize(x, fmt, tensor_scale=scale, quantizer=rule)
    other = quantize(x, linear("nvfp4"), tensor_scale=2.0**-9, quantizer=rule)
    assert float(q.tensor_scale) == scale
    np.testing.assert_array_equal(q.codes, other.codes)
    np.testing.assert_array_equal(dequantize(q), dequantize(other))
    by_amax = quantize(x, fmt, quantizer=rule)
    target = 256 if rule.endswith("256") else 448
    decoded = np.float64(by_amax.tensor_scale) ** (1 if sense == "multiplies" else -1)
    assert decoded == pytest.approx(np.abs(x).max() / (6 * target), rel=1e-6)


def run(program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    """A scalar interpreter of programs, apart from the one under test."""
    values = dict(inputs)
    f32, i32 = np.float32, np.int32
    for step in program.steps:
        args = [values[name] for name in step.operands]
        match step.op:
            case "constant":
                out = f32(step.value)
            case "integer":
                out = i32(step.value)
            case "add" | "sub" | "mul" | "div":
                out = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[step.op](*args)
            case "min" | "max":
                a, b = args
                pick = min if step.op == "min" else max
                out = b if np.isnan(a) else a if np.isnan(b) else pick(a, b)
            case "iadd" | "isub" | "iand" | "ishr":
                a, b = map(int, args)
                out = i32({"iadd": a + b, "isub": a - b, "iand": a & b, "ishr": a >> b}[step.op])
            case "imin" | "imax":
                out = (min if step.op == "imin" else max)(*args)
            case "eq" | "ieq" | "lt":
                out = args[0] < args[1] if step.op == "lt" else args[0] == args[1]
            case "either":
                out = args[0] or args[1]
            case "select":
                out = args[1] if args[0] else args[2]
            case "absolute":
                out = abs(args[0])
            case "bits":
                out = f32(args[0]).view(i32)
            case "encode":
                assert step.element is not None and step.rounding is not None
                out = i32(encode(args[0], step.element, step.rounding))
            case "decode":
                assert step.element is not None
                out = f32(decode(np.uint8(args[0]), step.element))
            case _:
                raise AssertionError(step.op)
        values[step.result] = out
    return values


TRACED = (
    [("nvfp4", "amax", name) for name in NVFP4_RULES]
    + [("nvfp4", "tensor_scale", name) for name in NVFP4_RULES]
    + [("mxfp4", "none", name) for name in (*MX_RULES, "absmax", "quartet_stochastic")]
    + [("mxfp8_e5m2", "none", "mx_even"), ("ds_act", "none", "absmax"), ("ds_act", "scale", "absmax")]
)


@pytest.mark.parametrize(("name", "mode", "rule"), TRACED)
def test_programs_write_the_bytes_that_quantize_returns(name: str, mode: Any, rule: str) -> None:
    """The rule as a program, run step by step on scalars, gives the scale and codes of every block."""
    fmt = linear(name)
    random = np.random.default_rng(12)
    wide = int(fmt.block[1])
    x = (random.standard_normal((6, wide)) * np.float32([[1], [30], [1e-3], [1e-20], [0], [1e6]])).astype(np.float32)
    given_scale = np.float32([0.01, 0.3, 1, 2, 0, 5e3])
    arguments = {"amax": {"amax": 2e6}, "tensor_scale": {"tensor_scale": 0.37}, "scale": {"scale": given_scale}}
    q = quantize(x, fmt, quantizer=rule, **arguments.get(mode, {}))
    programs = trace(fmt, mode, rule)
    with np.errstate(all="ignore"):
        source = {"amax": np.float32(2e6), "tensor_scale": np.float32(0.37)}
        tensor = run(programs.tensor, {k: v for k, v in source.items() if k == mode})
        factors = {"tensor_amax": np.float32(2e6)}
        for factor, made in zip(("tensor_encode", "tensor_decode"), programs.tensor.outputs, strict=False):
            factors[factor] = tensor[made]
        if programs.stored is not None:
            assert tensor[programs.stored] == q.tensor_scale
        codes = unpack(q.codes, fmt.bits)
        for i, row in enumerate(x):
            inputs = {"block_statistic": np.abs(row).max(), "scale": given_scale[i], **factors}
            candidates = []
            for program in filter(None, (programs.block, programs.alternative)):
                block = run(program, inputs)
                scale, factor = (block[n] for n in program.outputs)
                scaled = [run(programs.element, {"x": v, programs.element.inputs[1]: factor})["scaled"] for v in row]
                got = encode(np.float32(scaled), fmt.element)
                error = np.float32(0)
                if programs.error is not None:
                    for v, code in zip(row, got, strict=True):
                        element = decode(code, fmt.element)
                        term = run(programs.error, {"x": v, "element": element, "scale": scale, **factors})
                        error += term[programs.error.outputs[0]]
                candidates.append((error, scale, got))
            best = candidates[-1] if candidates[-1][0] < candidates[0][0] else candidates[0]
            assert best[1] == q.scales[i]
            np.testing.assert_array_equal(best[2], codes[i])


def test_programs_are_readable_and_have_no_dead_steps() -> None:
    program = trace(FORMATS["nvfp4"], "amax").block
    used = {name for step in program.steps for name in step.operands} | set(program.outputs)
    assert {step.result for step in program.steps} <= used
    assert program.outputs == ("scale", "factor")
    assert equations(program) == [
        "scale = e4m3(min(block_statistic * (tensor_encode * 0.16666667), 448))",
        "factor = min(1 / (value_e4m3(scale) * tensor_decode), FLT_MAX)",
    ]
    assert "scale = encode(t" in str(program)
    with pytest.raises(FormatError, match="has no tensor scale"):
        trace(FORMATS["mxfp4"], "amax")


def test_input_types() -> None:
    x = np.float32([[1, 2, 3, 4] * 8])
    wanted = quantize(x, "mxfp4").codes
    for dtype in (np.float64, np.float16, ml_dtypes.bfloat16, object):
        other = x.tolist() if dtype is object else x.astype(dtype)
        np.testing.assert_array_equal(quantize(other, "mxfp4").codes, wanted)
    with pytest.raises(DataError, match="real numbers, not complex64"):
        quantize(x.astype(np.complex64), "mxfp4")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fmt": "nvfp5"}, FormatError, "no block format is called 'nvfp5'"),
        ({"quantizer": "best"}, FormatError, "no quantizer is called 'best'"),
        ({"quantizer": "mx_floor"}, FormatError, "mx_floor makes e8m0 scales"),
        ({"fmt": "mxfp4", "amax": 1.0}, DataError, "has no tensor scale"),
        ({"amax": 1.0, "tensor_scale": 1.0}, DataError, "not both"),
        ({"amax": np.ones(2)}, DataError, "amax is one number"),
        ({"scale": 1.0}, DataError, "formats with f32 scales"),
        ({"fmt": "fp8_token", "scale": np.ones(3)}, DataError, "scale has 3 numbers"),
        ({"rounding": "up"}, DataError, "'nearest' or 'stochastic'"),
        ({"rounding": "stochastic"}, DataError, "needs rng"),
        ({"rounding": "stochastic", "rng": (1, 2, 3)}, DataError, "two unsigned 64-bit words"),
        ({"rounding": "stochastic", "rng": (1, 2), "quantizer": "nvfp4_4over6_mse"}, DataError, "stochastically"),
        ({"x": np.ones((2, 24), np.float32)}, DataError, "no multiple of 16"),
        ({"x": np.float32(1)}, DataError, "one axis or more"),
    ],
)
def test_named_errors(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    given_arguments = {"x": np.ones((2, 32), np.float32), "fmt": "nvfp4", **arguments}
    with pytest.raises(error, match=message):
        quantize(given_arguments.pop("x"), given_arguments.pop("fmt"), **given_arguments)


def test_four_over_six_needs_rows_it_can_halve() -> None:
    fmt = linear("nvfp4", block=(3, 16), stored=(1, 16))
    with pytest.raises(FormatError, match="1, 2, 4, 8"):
        quantize(np.ones((6, 16), np.float32), fmt, quantizer="nvfp4_4over6_mse")


def test_a_tensor_scale_divides_it_is_not_a_reciprocal_that_multiplies() -> None:
    """The quotient rounded once; the product with the reciprocal is another number for many of them."""
    rng = np.random.default_rng(5)
    fmt = replace(FORMATS["nvfp4"], tensor_scale="divides", quantizer="nvfp4_ct")
    different = 0
    for ts in rng.uniform(0.1, 3000, 20).astype(np.float32):
        q = quantize(rng.standard_normal((16, 64)).astype(np.float32), fmt, tensor_scale=ts)
        contracted = dequantize(q, tensor_scale=False)
        # float64 has more than twice the digits of float32, so that rounding twice is rounding once.
        wanted = (contracted.astype(np.float64) / np.float64(ts)).astype(np.float32)
        np.testing.assert_array_equal(dequantize(q), wanted)
        different += int((contracted * (np.float32(1) / ts) != wanted).sum())
    assert different > 1000


@pytest.mark.parametrize("sense", ["multiplies", "divides"])
@pytest.mark.parametrize("quantizer", ["nvfp4_amax", "nvfp4_modelopt", "nvfp4_ct", "nvfp4_torchao", "nvfp4_4over6_mse"])
def test_a_tensor_comes_back_or_is_refused(quantizer: str, sense: Any) -> None:
    """Over the whole range of float32: where the tensor scale or its reciprocal leaves it, the tensor would vanish."""
    fmt = replace(FORMATS["nvfp4"], tensor_scale=sense, quantizer=quantizer)
    refused = 0
    for exponent in (*range(-149, -110, 2), *range(-110, 128, 14)):
        x = np.full((1, 16), 2.0**exponent, np.float32)
        try:
            back = dequantize(quantize(x, fmt))
        except DataError as error:
            assert "has no nvfp4 tensor scale in float32" in str(error)
            refused += 1
            continue
        assert (np.abs(back / x - 1) <= 0.5).all()
    assert 2 <= refused < 30
    with pytest.raises(DataError, match="has no nvfp4 tensor scale"):
        quantize(np.ones((1, 16), np.float32), fmt, amax=1e-44)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 2e-39])
def test_a_tensor_scale_is_a_positive_number(value: float) -> None:
    with pytest.raises(DataError, match="a positive number with a finite float32 reciprocal"):
        quantize(np.ones((1, 16), np.float32), "nvfp4", tensor_scale=value)
