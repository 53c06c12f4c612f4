def encode_small(x, mantissa_bits, smallest_exponent, largest, sign):
    """The code of x in a small format, to nearest even, saturating; NaN is the largest. sm_90 has no such `cvt`.

    2^smallest_exponent is the smallest normal number, `sign` the sign bit. Adding 2^(23 - mantissa_bits) times the
    value of x's leading bit rounds x to a whole number of steps, which the sum holds in its lowest bits.
    """
    magnitude = minimum(absolute(x), largest)
    exponent = cutlass.max(bits(magnitude) & 0x7F800000, (127 + smallest_exponent) << 23)
    anchor = exponent + ((23 - mantissa_bits) << 23)
    steps = bits(add(magnitude, from_bits(anchor))) - anchor
    code = steps + (((exponent >> 23) - (127 + smallest_exponent)) << mantissa_bits)
    return code | where_int(both(bits(x) < 0, Float32(x) == Float32(x)), sign, 0)


def encode_e2m1(x):
    """The e2m1 code of x."""
    return encode_small(x, 1, 0, 6.0, 8)


def encode_e3m2(x):
    """The e3m2 code of x."""
    return encode_small(x, 2, -2, 28.0, 32)


def encode_e2m3(x):
    """The e2m3 code of x."""
    return encode_small(x, 3, 0, 7.5, 32)


def pack_e2m1(x):
    """Eight floats rounded to e2m1 (saturating), the first in the lowest nibble."""
    word = encode_e2m1(x[0])
    for i in range(1, 8):
        word |= encode_e2m1(x[i]) << 4 * i
    return word


def pack_four_e3m2(x):
    """Four floats rounded to e3m2 (saturating) in the low 24 bits, the first lowest."""
    codes = [encode_e3m2(value) for value in x]
    return codes[0] | codes[1] << 6 | codes[2] << 12 | codes[3] << 18


def pack_four_e2m3(x):
    """Four floats rounded to e2m3 (saturating) in the low 24 bits, the first lowest."""
    codes = [encode_e2m3(value) for value in x]
    return codes[0] | codes[1] << 6 | codes[2] << 12 | codes[3] << 18


def encode_e8m0_up(x):
    """The e8m0 code of x >= 0, rounded up to a power of two; infinity is 254, NaN 255."""
    pattern = bits(x) & 0x7FFFFFFF
    code = cutlass.min((pattern + 0x7FFFFF) >> 23, 254)  # under 2^-126 a float is subnormal: 2^-127 is 0x400000
    return where_int(pattern > 0x7F800000, 255, where_int(pattern <= 0x400000, 0, code))


def dithered_code(element, x, random):
    """The code of x in a small format, rounded up where the dropped fraction of a step and random / 256 reach 1."""
    mantissa_bits, smallest_exponent, largest, largest_code, sign, nan = {
        "e2m1": (1, 0, 6.0, 7, 8, 7),
        "e4m3": (3, -6, 448.0, 0x7E, 0x80, 0x7F),
        "e5m2": (2, -14, 57344.0, 0x7B, 0x80, 0x7F),
        "e3m2": (2, -2, 28.0, 31, 32, 31),
        "e2m3": (3, 0, 7.5, 31, 32, 31),
    }[element]
    dropped = 23 - mantissa_bits
    magnitude = minimum(absolute(x), largest)
    normal = ((bits(magnitude) + (random << (dropped - 8))) >> dropped) - ((126 + smallest_exponent) << mantissa_bits)
    # Below the smallest normal number count in 1/256 of a step.
    parts = word_asm("cvt.rzi.s32.f32 $0, $1;", "=r,f", mul(magnitude, 2.0 ** (8 + mantissa_bits - smallest_exponent)))
    below = bits(magnitude) < ((127 + smallest_exponent) << 23)
    code = cutlass.min(where_int(below, (parts + random) >> 8, normal), largest_code)
    return where_int(Float32(x) == Float32(x), code | where_int(bits(x) < 0, sign, 0), nan)


def dithered_e2m1(x, random):
    """Codes of eight floats as a word, rounded up or down by a random byte each."""
    word = Int32(0)
    for i in range(8):
        word |= dithered_code("e2m1", x[i], (random[i // 4] >> 8 * (i % 4)) & 255) << 4 * i
    return word


def dithered_bytes(element, x, random):
    """Codes of four floats, one a byte, rounded up or down by a random byte each."""
    word = Int32(0)
    for i in range(4):
        word |= dithered_code(element, x[i], (random >> 8 * i) & 255) << 8 * i
    return word
