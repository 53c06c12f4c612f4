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
