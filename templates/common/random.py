def mul_high(a, b):
    """The high 32 bits of the product of two unsigned words."""
    return word_asm("mul.hi.u32 $0, $1, $2;", "=r,r,r", a, Int32(b))


def philox(counter, key):
    """Philox4x32-10: four random words of a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = mul_high(c0, -0x2DAEE0AD), c0 * -0x2DAEE0AD
        high1, low1 = mul_high(c2, -0x326172A9), c2 * -0x326172A9
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 - 0x61C88647, k1 - 0x4498517B
    return [c0, c1, c2, c3]


def random_words(state, stream, group, count):
    """The words of `count` groups from `group` on; `state` is the words of a seed and an offset, low halves first."""
    words = []
    for i in range(count):
        index = Int64(group) + i
        high = Int32(index >> 32) | stream << 16
        words += philox([Int32(index & 0xFFFFFFFF), high, state[2], state[3]], state[:2])
    return words


def random_bytes(state, stream, first):
    """A random byte for each of 32 elements from logical index `first` on, as words; `first` is any number."""
    words = random_words(state, stream, first >> 4, 3)
    skip = Int32(first & 15)
    for distance in (1, 2):
        moved = (skip & 4 * distance) != 0
        words = [where_int(moved, words[i + distance], words[i]) for i in range(len(words) - distance)]
    shift = (skip & 3) * 8
    return [word_asm("shf.r.wrap.b32 $0, $1, $2, $3;", "=r,r,r,r", *words[i : i + 2], shift) for i in range(8)]


def uniform_columns(state, stream, first, aligned):
    """Numbers in [0, 1) for 32 elements from logical index `first` on; `aligned`: 4 divides it."""
    words = random_words(state, stream, first >> 2, 8 if aligned else 9)
    if not aligned:
        skip = Int32(first & 3)
        words = [one_of(skip, words[i : i + 4]) for i in range(32)]
    return [mul(f32_of_word("cvt.rn.f32.u32 $0, $1;", high_bits(word)), 5.9604644775390625e-08) for word in words[:32]]


def uniform_across(state, stream, first, step):
    """Numbers in [0, 1) for 32 elements whose logical indices are `step` apart, from `first` on."""
    numbers = []
    for i in range(32):
        index = first + Int64(step) * i
        word = one_of(Int32(index & 3), random_words(state, stream, index >> 2, 1))
        numbers.append(mul(f32_of_word("cvt.rn.f32.u32 $0, $1;", high_bits(word)), 5.9604644775390625e-08))
    return numbers


def high_bits(word):
    """The high 24 bits of a word."""
    return word_asm("shr.u32 $0, $1, 8;", "=r,r", word)


def one_of(index, words):
    """Word 0, 1, 2 or 3 of a list."""
    low = where_int(index == 0, words[0], words[1])
    return where_int(index < 2, low, where_int(index == 2, words[2], words[3]))


def dithered_e2m1(x, random):
    """Codes of eight floats as a word, rounded up or down by a random byte each."""
    return word_asm(
        "{ .reg .b16 low, high; cvt.rs.satfinite.e2m1x4.f32 low, {$4, $3, $2, $1}, $9; "
        "cvt.rs.satfinite.e2m1x4.f32 high, {$8, $7, $6, $5}, $10; mov.b32 $0, {low, high}; }",
        "=r,f,f,f,f,f,f,f,f,r,r",
        *x,
        *random,
    )


def dithered_bytes(element, x, random):
    """Codes of four floats, one a byte, rounded up or down by a random byte each."""
    text = "cvt.rs.satfinite.%sx4.f32 $0, {$4, $3, $2, $1}, $5;" % element
    return word_asm(text, "=r,f,f,f,f,r", *x, random)


def random_words_e2m1(x, random):
    """The codes of a list of floats as words, rounded stochastically: a random byte an element."""
    return [dithered_e2m1(x[j : j + 8], random[j // 4 : j // 4 + 2]) for j in range(0, len(x), 8)]


def random_words_e4m3(x, random):
    """The codes of a list of floats as words, rounded stochastically: a random byte an element."""
    return [dithered_bytes("e4m3", x[j : j + 4], random[j // 4]) for j in range(0, len(x), 4)]


def random_words_e5m2(x, random):
    """The codes of a list of floats as words, rounded stochastically: a random byte an element."""
    return [dithered_bytes("e5m2", x[j : j + 4], random[j // 4]) for j in range(0, len(x), 4)]


def random_words_e3m2(x, random):
    """The codes of a list of floats as words, rounded stochastically: a random byte an element."""
    spread = [dithered_bytes("e3m2", x[j : j + 4], random[j // 4]) for j in range(0, len(x), 4)]
    return words_of_24_bits([together(word) for word in spread])


def random_words_e2m3(x, random):
    """The codes of a list of floats as words, rounded stochastically: a random byte an element."""
    spread = [dithered_bytes("e2m3", x[j : j + 4], random[j // 4]) for j in range(0, len(x), 4)]
    return words_of_24_bits([together(word) for word in spread])
