def widened(codes, element, wide):
    """A small float in each half of a word, in the low bits there (others are ignored), as bf16 or f16.

    The bits of exponent and fraction, put where the wider type keeps the lowest of its exponent and the highest of its
    fraction, are the same number times a power of two, subnormals included; the product by that power is exact.
    """
    exponent_bits, mantissa_bits, bias = {"e2m1": (2, 1, 1), "e3m2": (3, 2, 3), "e2m3": (2, 3, 1)}[element]
    fraction_bits, wide_bias = {"bf16": (7, 127), "f16": (10, 15)}[wide]
    shift, size = fraction_bits - mantissa_bits, exponent_bits + mantissa_bits
    magnitudes, signs, factor = (
        half << 16 | half for half in (((1 << size) - 1) << shift, 1 << 15, (2 * wide_bias - bias) << fraction_bits)
    )
    text = (
        "{ .reg .b32 sign; shl.b32 $0, $1, %d; and.b32 $0, $0, 0x%X; shl.b32 sign, $1, %d; and.b32 sign, sign, 0x%X; "
        "or.b32 $0, $0, sign; mov.b32 sign, 0x%X; mul.rn.%sx2 $0, $0, sign; }"
    )
    return word_asm(text % (shift, magnitudes, 15 - size, signs, factor, wide), "=&r,r", codes)


def joined(selector, first, second):
    """A word of two halves of others: those that a prmt selector names."""
    return word_asm("prmt.b32 $0, $1, $2, 0x%X;" % selector, "=r,r,r", first, second)


def pairs_of_e2m1(words, wide):
    """Eight e2m1 a word as bf16 or f16: four words of two."""
    pairs = []
    for word in words:
        # Numbers i and i + 4 of the eight, for each i, then neighbors.
        apart = [widened(word >> 4 * i, "e2m1", wide) for i in range(4)]
        for selector in (0x5410, 0x7632):
            pairs += [joined(selector, apart[i], apart[i + 1]) for i in (0, 2)]
    return pairs


def pairs_of_6_bits(words, element, wide):
    """16 codes of 6 bits in three words as bf16 or f16, for each three: eight words of two."""
    pairs = []
    for i in range(len(words) * 32 // 12):
        first, start = words[12 * i // 32], 12 * i % 32
        if start > 20:  # the two codes lie in two words
            codes = word_asm("shf.r.wrap.b32 $0, $1, $2, %d;" % start, "=r,r,r", first, words[12 * i // 32 + 1])
        else:
            codes = first >> start
        pairs.append(widened(codes & 0x3F | codes << 10 & 0x3F0000, element, wide))
    return pairs


def pairs_of_e3m2(words, wide):
    """e3m2 as bf16 or f16, two a word."""
    return pairs_of_6_bits(words, "e3m2", wide)


def pairs_of_e2m3(words, wide):
    """e2m3 as bf16 or f16, two a word."""
    return pairs_of_6_bits(words, "e2m3", wide)


def pairs_of_8_bits(words, element, wide):
    """Four e4m3 or e5m2 a word as bf16 or f16, two a word: both have every one of them."""
    halves = [
        word_asm("{ .reg .b16 x, y; mov.b32 {x, y}, $1; cvt.rn.f16x2.%sx2 $0, %s; }" % (element, half), "=r,r", word)
        for word in words
        for half in ("x", "y")
    ]
    return halves if wide == "f16" else [pack_bf16(unpack_f16(pair)) for pair in halves]


def pairs_of_e4m3(words, wide):
    """e4m3 as bf16 or f16, two a word."""
    return pairs_of_8_bits(words, "e4m3", wide)


def pairs_of_e5m2(words, wide):
    """e5m2 as bf16 or f16, two a word."""
    return pairs_of_8_bits(words, "e5m2", wide)


def scales_of_e4m3(word, wide):
    """Four e4m3 scales, each twice in a word as bf16 or f16."""
    return [joined(selector, pair, pair) for pair in pairs_of_e4m3([word], wide) for selector in (0x1010, 0x3232)]


def scales_of_e8m0(word):
    """Four e8m0 scales, each twice in a word as bf16: the code is the exponent field, 0 is 2^-127, 0xFF is NaN."""
    text = (
        "{ .reg .b32 code; .reg .pred zero, nan; bfe.u32 code, $1, %d, 8; setp.eq.u32 zero, code, 0; "
        "setp.eq.u32 nan, code, 255; shl.b32 $0, code, 7; selp.b32 $0, 0x40, $0, zero; selp.b32 $0, 0x7FFF, $0, nan; "
        "prmt.b32 $0, $0, $0, 0x1010; }"
    )
    return [word_asm(text % (8 * i), "=&r,r", word) for i in range(4)]


def scaled(pair, scale, wide):
    """Two bf16 or f16 by a scale each: exact while the product is a normal number."""
    return word_asm("mul.rn.%sx2 $0, $1, $2;" % wide, "=r,r,r", pair, scale)
