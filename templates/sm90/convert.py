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


def encode_e3m2(x):
    """The e3m2 code of x."""
    return encode_small(x, 2, -2, 28.0, 32)


def encode_e2m3(x):
    """The e2m3 code of x."""
    return encode_small(x, 3, 0, 7.5, 32)


def pack_e2m1(x):
    """Eight floats rounded to e2m1 to nearest even (saturating; NaN is 6), the first in the lowest nibble."""
    steps = [steps_e2m1(value) for value in x]
    even, odd = pack_e4m3(steps[0::2]), pack_e4m3(steps[1::2])
    # A byte is the sign, four zeros and the code without a sign.
    even = chosen(even, even >> 4, 0x07070707)
    odd = chosen(odd << 4, odd, 0x70707070)
    return chosen(even, odd, 0x0F0F0F0F)


def steps_e2m1(x):
    """A float that rounds to e4m3 as the sign of x and, in its last bits, the e2m1 code of |x|.

    Below 2^-6 the codes of e4m3 are multiples of 2^-9. Those of e2m1 are, by binades, 2 |x|, |x| + 2 and |x| / 2 + 4,
    each rounded to nearest even: the least of the three, and 7 at most. The first is left to e4m3; adding 2^23 and 2^24
    rounds for the others. A product that is NaN has no sign.
    """
    small = mul(x, 0.00390625)
    middle = fma(add(absolute(x), 8388608.0), 0.001953125, -16383.99609375)
    large = fma(add(absolute(x), 16777216.0), 0.0009765625, -16383.9921875)
    least = minimum(minimum(minimum(absolute(small), 0.013671875), middle), large)
    return from_bits(bits(least) | (bits(small) & -2147483648))


def chosen(a, b, mask):
    """The bits of a where the mask has ones, else those of b."""
    return (a & mask) | (b & ~mask)


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
