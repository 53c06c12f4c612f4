def f16_pairs_of_e2m1(word):
    """Eight e2m1 as f16: four words of two."""
    text = "{ .reg .b8 x<4>; mov.b32 {x0, x1, x2, x3}, $1; cvt.rn.f16x2.e2m1x2 $0, x%d; }"
    return [word_asm(text % i, "=r,r", word) for i in range(4)]


def f16_pairs_of_bytes(word, element):
    """Four elements of a byte each as f16: two words of two. Exact: f16 has every e4m3, e5m2, e3m2 and e2m3."""
    text = "{ .reg .b16 x<2>; mov.b32 {x0, x1}, $1; cvt.rn.f16x2.%sx2 $0, x%d; }"
    return [word_asm(text % (element, i), "=r,r", word) for i in range(2)]


def f16_pairs_of_e4m3(word):
    """Four e4m3 as f16: two words of two."""
    return f16_pairs_of_bytes(word, "e4m3")


def f16_pairs_of_e5m2(word):
    """Four e5m2 as f16: two words of two."""
    return f16_pairs_of_bytes(word, "e5m2")


def f16_pairs_of_e3m2(word):
    """Four e3m2, one a byte, as f16: two words of two."""
    return f16_pairs_of_bytes(word, "e3m2")


def f16_pairs_of_e2m3(word):
    """Four e2m3, one a byte, as f16: two words of two."""
    return f16_pairs_of_bytes(word, "e2m3")


def bf16_pair(pair):
    """Two f16 as bf16, exact where they have 8 significant bits."""
    return pack_bf16(unpack_f16(pair))


def bf16_pairs_of_e2m1(word):
    """Eight e2m1 as bf16: four words of two."""
    return [bf16_pair(pair) for pair in f16_pairs_of_e2m1(word)]


def bf16_pairs_of_e3m2(word):
    """Four e3m2, one a byte, as bf16: two words of two."""
    return [bf16_pair(pair) for pair in f16_pairs_of_e3m2(word)]


def bf16_pairs_of_e2m3(word):
    """Four e2m3, one a byte, as bf16: two words of two."""
    return [bf16_pair(pair) for pair in f16_pairs_of_e2m3(word)]


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


def f16_scales_of_e4m3(word):
    """Four e4m3 scales, each twice in a word as f16."""
    text = "{ .reg .b16 x<2>; mov.b32 {x0, x1}, $1; mov.b32 $0, {x%d, x%d}; }"
    return [word_asm(text % (i, i), "=r,r", pair) for pair in f16_pairs_of_e4m3(word) for i in range(2)]


def scaled_f16(pair, scale):
    """Two f16 by a scale each: exact for the elements and scales whose products f16 holds."""
    return word_asm("mul.rn.f16x2 $0, $1, $2;", "=r,r,r", pair, scale)
