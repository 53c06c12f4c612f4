def largest_magnitude(x):
    """max |x| over a list, NaN ignored."""
    values = [absolute(value) for value in x]
    while len(values) > 1:  # by pairs, which do not wait for each other
        last = values[len(values) // 2 * 2 :]
        values = [maximum(a, b) for a, b in zip(values[0::2], values[1::2])] + last
    return maximum(values[0], 0.0)


def largest_magnitude_or_nan(x):
    """max |x| over a list; a NaN makes it NaN."""
    largest = Float32(0.0)
    for value in x:
        largest = at_least(absolute(value), largest)
    return largest


def standard_deviation(x):
    """The population standard deviation of a list; sums run from the first value to the last."""
    total, squares = Float32(0.0), Float32(0.0)
    for value in x:
        total, squares = add(total, value), add(squares, mul(value, value))
    mean = div(total, len(x))
    return sqrt(at_least(sub(div(squares, len(x)), mul(mean, mean)), 0.0))


def largest_of_warps(slots, warp, x, warps, barrier):
    """The largest x of two or of all four warps; a NaN makes it NaN. `slots`: shared memory, a float for each warp."""
    x = largest_of_lanes(x, 32)
    prims.barrier_cta_sync(barrier, thread_count=128)  # the last ones have been read
    shared_store_f32(slots + 4 * warp, x)
    prims.barrier_cta_sync(barrier, thread_count=128)
    a, b, c, d = shared_load_4_f32(slots)
    low, high = at_least(a, b), at_least(c, d)
    return at_least(low, high) if warps == 4 else where(warp < 2, low, high)


def largest_of_lanes(x, lanes):
    """The largest x of each group of adjacent lanes; a NaN makes it NaN."""
    step = 1
    while step < lanes:
        other = from_bits(prims.shfl_sync(cute.arch.FULL_MASK, bits(x), step, 31, prims.Shfl.BFLY))
        x = at_least(x, other)
        step *= 2
    return x


def repeated(x, times):
    """Each of a list several times."""
    return [value for value in x for _ in range(times)]


def where_int(condition, a, b):
    """The integer `a` where the condition holds, else `b`."""
    return Int32(cutlass.select_(condition, Int32(a), Int32(b)))


def encode_e4m3(x):
    """The e4m3 code of x (saturating; NaN is 0x7f)."""
    return word_asm(
        "{ .reg .b16 code; cvt.rn.satfinite.e4m3x2.f32 code, 0f00000000, $1; cvt.u32.u16 $0, code; }", "=r,f", x
    )


def decode_e4m3(code):
    """The value of an e4m3 code."""
    return unpack_e4m3(code)[0]


def encode_e8m0_up(x):
    """The e8m0 code of x, rounded up to a power of two."""
    return word_asm(
        "{ .reg .b16 code; .reg .b32 wide; cvt.rp.satfinite.ue8m0x2.f32 code, 0f00000000, $1; "
        "cvt.u32.u16 wide, code; and.b32 $0, wide, 255; }",
        "=r,f",
        x,
    )


def encode_e8m0_down(x):
    """The e8m0 code of x, rounded down to a power of two; infinity is 254, NaN 255."""
    pattern = bits(x) & 0x7FFFFFFF
    return where_int(pattern > 0x7F800000, 255, cutlass.min(pattern >> 23, 254))


def decode_e8m0(code):
    """2^(code - 127); 255 is NaN."""
    power = where_int(code == 0, 0x00400000, code << 23)
    return from_bits(where_int(code == 255, 0x7FFFFFFF, power))


def pack_e2m1(x):
    """Eight floats rounded to e2m1 (saturating), the first in the lowest nibble."""
    return word_asm(
        "{ .reg .b8 a, b, c, d; cvt.rn.satfinite.e2m1x2.f32 a, $2, $1; cvt.rn.satfinite.e2m1x2.f32 b, $4, $3; "
        "cvt.rn.satfinite.e2m1x2.f32 c, $6, $5; cvt.rn.satfinite.e2m1x2.f32 d, $8, $7; mov.b32 $0, {a, b, c, d}; }",
        "=r,f,f,f,f,f,f,f,f",
        *x,
    )


def pack_four_e3m2(x):
    """Four floats rounded to e3m2 (saturating) in the low 24 bits, the first lowest."""
    return pack_four_of_six_bits("e3m2", x)


def pack_four_e2m3(x):
    """Four floats rounded to e2m3 (saturating) in the low 24 bits, the first lowest."""
    return pack_four_of_six_bits("e2m3", x)


def pack_four_of_six_bits(element, x):
    """Four codes of six bits in the low 24 bits, the first lowest."""
    spread = word_asm(
        "{ .reg .b16 low, high; cvt.rn.satfinite.%sx2.f32 low, $2, $1; cvt.rn.satfinite.%sx2.f32 high, $4, $3; "
        "mov.b32 $0, {low, high}; }" % (element, element),
        "=r,f,f,f,f",
        *x,
    )
    return together(spread)


def together(spread):
    """Four codes of six bits, one a byte, in the low 24 bits."""
    codes = [(spread >> 8 * i) & 63 for i in range(4)]
    return codes[0] | codes[1] << 6 | codes[2] << 12 | codes[3] << 18


def words_of_24_bits(groups):
    """Groups of 24 bits, four to three words."""
    words = []
    for i in range(0, len(groups), 4):
        a, b, c, d = groups[i : i + 4]
        words += [a | b << 24, ((b >> 8) & 0xFFFF) | c << 16, ((c >> 16) & 0xFF) | d << 8]
    return words


def words_e2m1(x):
    """The codes of a list of floats as words."""
    return [pack_e2m1(x[j : j + 8]) for j in range(0, len(x), 8)]


def words_e4m3(x):
    """The codes of a list of floats as words."""
    return [pack_e4m3(x[j : j + 4]) for j in range(0, len(x), 4)]


def words_e5m2(x):
    """The codes of a list of floats as words."""
    return [pack_e5m2(x[j : j + 4]) for j in range(0, len(x), 4)]


def words_e3m2(x):
    """The codes of a list of floats as words."""
    return words_of_24_bits([pack_four_e3m2(x[j : j + 4]) for j in range(0, len(x), 4)])


def words_e2m3(x):
    """The codes of a list of floats as words."""
    return words_of_24_bits([pack_four_e2m3(x[j : j + 4]) for j in range(0, len(x), 4)])


def transpose_in_warp(slab, lane, x):
    """Turn a 32 x 32 sub-tile around: lane i gives row i and gets column i. 16-byte chunks are swizzled in the slab."""
    prims.bar_warp_sync(cute.arch.FULL_MASK)  # the last transposition has been read
    for j in range(32):
        shared_store_f32(slab + 128 * j + (((lane >> 2) ^ (j & 7)) << 4) + ((lane & 3) << 2), Float32(x[j]))
    prims.bar_warp_sync(cute.arch.FULL_MASK)
    column = []
    for i in range(8):
        column += shared_load_4_f32(slab + lane * 128 + (((lane & 7) ^ i) << 4))
    return column


def decode_small(code, bits_of_code, mantissa_bits, bias):
    """The value of a code of a small format without infinities and NaN; bits above the code are ignored."""
    magnitude = from_bits((code & ((1 << (bits_of_code - 1)) - 1)) << (23 - mantissa_bits))
    return copysign(mul(magnitude, 2.0 ** (127 - bias)), from_bits(code << (32 - bits_of_code)))


def rounded_e2m1(x):
    """A list of floats, its length a multiple of 8, rounded to e2m1."""
    return [decode_small(word >> 4 * i, 4, 1, 1) for word in words_e2m1(x) for i in range(8)]


def rounded_e3m2(x):
    """A list of floats, its length a multiple of 4, rounded to e3m2."""
    groups = [pack_four_e3m2(x[j : j + 4]) for j in range(0, len(x), 4)]
    return [decode_small(group >> 6 * i, 6, 2, 3) for group in groups for i in range(4)]


def rounded_e2m3(x):
    """A list of floats, its length a multiple of 4, rounded to e2m3."""
    groups = [pack_four_e2m3(x[j : j + 4]) for j in range(0, len(x), 4)]
    return [decode_small(group >> 6 * i, 6, 3, 1) for group in groups for i in range(4)]


def rounded_e4m3(x):
    """A list of floats rounded to e4m3."""
    return [round_e4m3(value) for value in x]


def rounded_e5m2(x):
    """A list of floats rounded to e5m2."""
    return [round_e5m2(value) for value in x]
