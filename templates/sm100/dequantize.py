def bf16_or_f16(pairs, wide):
    """Pairs of f16 as that type, exact where they have 8 significant bits."""
    return pairs if wide == "f16" else [pack_bf16(unpack_f16(pair)) for pair in pairs]


def pairs_of_e2m1(words, wide):
    """Eight e2m1 a word as bf16 or f16: four words of two."""
    text = "{ .reg .b8 x<4>; mov.b32 {x0, x1, x2, x3}, $1; cvt.rn.f16x2.e2m1x2 $0, x%d; }"
    return bf16_or_f16([word_asm(text % i, "=r,r", word) for word in words for i in range(4)], wide)


def pairs_of_6_bits(words, element, wide):
    """16 codes of 6 bits in three words as bf16 or f16, for each three: eight words of two."""
    text = "{ .reg .b16 x<2>; mov.b32 {x0, x1}, $1; cvt.rn.f16x2.%sx2 $0, x%d; }"
    fours = [four for i in range(0, len(words), 3) for four in bytes_of_six_bits(words[i : i + 3])]
    return bf16_or_f16([word_asm(text % (element, i), "=r,r", four) for four in fours for i in range(2)], wide)


def bytes_of_six_bits(words):
    """Sixteen six-bit codes in three words as four words of four codes, one a byte."""
    a, b, c = words
    fours = [
        a,
        word_asm("shf.r.wrap.b32 $0, $1, $2, 24;", "=r,r,r", a, b),
        word_asm("shf.r.wrap.b32 $0, $1, $2, 16;", "=r,r,r", b, c),
        word_asm("shr.u32 $0, $1, 8;", "=r,r", c),
    ]  # 24 bits of codes each, and others above them
    return [x & 0x3F | x << 2 & 0x3F00 | x << 4 & 0x3F0000 | x << 6 & 0x3F000000 for x in fours]
