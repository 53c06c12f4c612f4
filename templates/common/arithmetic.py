def f32_asm(text, *operands):
    """PTX on f32 registers, as written: the compiler neither contracts nor reassociates it."""
    values = [Float32(x).ir_value() for x in operands]
    return Float32(llvm.inline_asm(Float32.mlir_type, values, text, ",".join(["=f", *["f"] * len(values)])))


def add(a, b):
    """a + b"""
    return f32_asm("add.rn.f32 $0, $1, $2;", a, b)


def sub(a, b):
    """a - b"""
    return f32_asm("sub.rn.f32 $0, $1, $2;", a, b)


def mul(a, b):
    """a * b"""
    return f32_asm("mul.rn.f32 $0, $1, $2;", a, b)


def div(a, b):
    """a / b"""
    return f32_asm("div.rn.f32 $0, $1, $2;", a, b)


def rcp(x):
    """1 / x"""
    return f32_asm("rcp.rn.f32 $0, $1;", x)


def sqrt(x):
    """The square root."""
    return f32_asm("sqrt.rn.f32 $0, $1;", x)


def fma(a, b, c):
    """a * b + c, rounded once"""
    return f32_asm("fma.rn.f32 $0, $1, $2, $3;", a, b, c)


def minimum(a, b):
    """The smaller; of a NaN and a number, the number."""
    return f32_asm("min.f32 $0, $1, $2;", a, b)


def maximum(a, b):
    """The larger; of a NaN and a number, the number."""
    return f32_asm("max.f32 $0, $1, $2;", a, b)


def at_most(x, high):
    """x, or `high` if x is above it; NaN stays."""
    return f32_asm("min.NaN.f32 $0, $1, $2;", x, high)


def at_least(x, low):
    """x, or `low` if x is below it; NaN stays."""
    return f32_asm("max.NaN.f32 $0, $1, $2;", x, low)


def absolute(x):
    """|x|"""
    return f32_asm("abs.f32 $0, $1;", x)


def neg(x):
    """-x"""
    return f32_asm("neg.f32 $0, $1;", x)


def copysign(magnitude, sign):
    """`magnitude` with the sign of `sign`."""
    return f32_asm("copysign.f32 $0, $2, $1;", magnitude, sign)


def relu(x):
    """max(x, 0)"""
    return maximum(x, 0.0)


def sign(x):
    """-1, 0 or 1; NaN stays."""
    return where(gt(x, 0.0), 1.0, where(lt(x, 0.0), -1.0, where(eq(x, 0.0), 0.0, x)))


def lt(a, b):
    """a < b; false if either is NaN, as for the next four."""
    return Float32(a) < Float32(b)


def le(a, b):
    """a <= b"""
    return Float32(a) <= Float32(b)


def gt(a, b):
    """a > b"""
    return Float32(a) > Float32(b)


def ge(a, b):
    """a >= b"""
    return Float32(a) >= Float32(b)


def eq(a, b):
    """a == b"""
    return Float32(a) == Float32(b)


def ne(a, b):
    """a != b; true if either is NaN."""
    return is_not(Float32(a) == Float32(b))


def isnan(x):
    """Whether x is NaN."""
    return is_not(Float32(x) == Float32(x))


def both(a, b):
    """a and b"""
    return cutlass.Boolean(a) & cutlass.Boolean(b)


def either(a, b):
    """a or b"""
    return cutlass.Boolean(a) | cutlass.Boolean(b)


def is_not(a):
    """not a"""
    return cutlass.Boolean(a) ^ cutlass.Boolean(True)


def where(condition, a, b):
    """`a` where the condition holds, else `b`."""
    return Float32(cutlass.select_(condition, Float32(a), Float32(b)))


def where_bool(condition, a, b):
    """`a` where the condition holds, else `b`; all three are conditions."""
    return either(both(condition, a), both(is_not(condition), b))


def bits(x):
    """The 32 bits of a float."""
    return Float32(x).bitcast(Int32)


def from_bits(i):
    """The float that has these bits."""
    return Int32(i).bitcast(Float32)


def round_bf16(x):
    """x rounded to bf16, as f32."""
    return f32_asm("cvt.rn.bf16x2.f32 $0, $1, 0f00000000;", x)


def round_f16(x):
    """x rounded to f16, as f32."""
    return f32_asm("{ .reg .b16 h; cvt.rn.f16.f32 h, $1; cvt.f32.f16 $0, h; }", x)


def round_e4m3(x):
    """x rounded to e4m3 (saturating, NaN stays), as f32."""
    return f32_asm(
        "{ .reg .b16 codes, low, high; .reg .b32 halves; cvt.rn.satfinite.e4m3x2.f32 codes, 0f00000000, $1; "
        "cvt.rn.f16x2.e4m3x2 halves, codes; mov.b32 {low, high}, halves; cvt.f32.f16 $0, low; }",
        x,
    )


def round_e5m2(x):
    """x rounded to e5m2 (saturating, NaN stays), as f32."""
    return f32_asm(
        "{ .reg .b16 codes, low, high; .reg .b32 halves; cvt.rn.satfinite.e5m2x2.f32 codes, 0f00000000, $1; "
        "cvt.rn.f16x2.e5m2x2 halves, codes; mov.b32 {low, high}, halves; cvt.f32.f16 $0, low; }",
        x,
    )
