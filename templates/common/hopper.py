def shared_load_4_words(address):
    """Four words of shared memory, 16-byte aligned."""
    words = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * 4),
        [address.ir_value()],
        "ld.shared.v4.b32 {$0, $1, $2, $3}, [$4];",
        "=r,=r,=r,=r,r,~{memory}",
        has_side_effects=True,
    )
    return [Int32(llvm.extractvalue(Int32.mlir_type, words, [i])) for i in range(4)]


def shared_store_2_floats(address, first, second):
    """Two floats to shared memory, 8-byte aligned."""
    values = [address.ir_value(), first.ir_value(), second.ir_value()]
    llvm.inline_asm(None, values, "st.shared.v2.f32 [$0], {$1, $2};", "r,f,f,~{memory}", has_side_effects=True)


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


def halves_of(selector, first, second):
    """A word of two halves of others: those that a prmt selector names."""
    return word_asm("prmt.b32 $0, $1, $2, 0x%X;" % selector, "=r,r,r", first, second)


def pairs_of_e2m1(words, wide):
    """Eight e2m1 a word as bf16 or f16: four words of two."""
    pairs = []
    for word in words:
        # Numbers i and i + 4 of the eight, for each i, then neighbors.
        apart = [widened(word >> 4 * i, "e2m1", wide) for i in range(4)]
        for selector in (0x5410, 0x7632):
            pairs += [halves_of(selector, apart[i], apart[i + 1]) for i in (0, 2)]
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
    return [halves_of(selector, pair, pair) for pair in pairs_of_e4m3([word], wide) for selector in (0x1010, 0x3232)]


def scales_of_e8m0(word):
    """Four e8m0 scales, each twice in a word as bf16: the code is the exponent field, 0 is 2^-127, 0xFF is NaN."""
    text = (
        "{ .reg .b32 code; .reg .pred zero, nan; bfe.u32 code, $1, %d, 8; setp.eq.u32 zero, code, 0; "
        "setp.eq.u32 nan, code, 255; shl.b32 $0, code, 7; selp.b32 $0, 0x40, $0, zero; selp.b32 $0, 0x7FFF, $0, nan; "
        "prmt.b32 $0, $0, $0, 0x1010; }"
    )
    return [word_asm(text % (8 * i), "=&r,r", word) for i in range(4)]


def bytes_of(words, count):
    """The low bytes of `count` words as one."""
    found = words[0]
    for i in range(1, count):
        found |= words[i] << 8 * i
    return found


def atom_scales(atom, row, first, count):
    """Scales `first` and later, `count` of them, of a row of an atom of 128 rows x 4 scales, as a word."""
    return shared_load_word(atom + row % 32 * 16 + row // 32 * 4 + first, count)


def scaled(pair, scale, wide):
    """Two bf16 or f16 by a scale each: exact while the product is a normal number."""
    return word_asm("mul.rn.%sx2 $0, $1, $2;" % wide, "=r,r,r", pair, scale)


def clear(registers, count):
    """Set registers to 0."""
    for i in range(count):
        registers[i] = Float32(0.0)


def mma_64_rows(registers, first, columns, wide, a, b, keep=True):
    """Registers first.. += A B for 64 rows, `columns` and 16 of K, bf16 or f16 by descriptors: columns / 2 sums.

    Without `keep` what was in the registers does not count; the compiler still sees that they stay the same ones.
    """
    count = columns // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    text = "wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s {%s}, $%d, $%d, %d, 1, 1, 0, 0;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[first + i] for i in range(count)], a, b)],
        text % (columns, wide, wide, outputs, 2 * count, 2 * count + 1, keep),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "l", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def column_factors(factors, lane, columns):
    """Factors of the columns that this thread's wgmma sums are of, out of those of all: two in each eight."""
    found = []
    for i in range(columns // 8):
        pair = llvm.inline_asm(
            llvm.StructType.get_literal([Float32.mlir_type] * 2),
            [(factors + 4 * (8 * i + lane % 4 * 2)).ir_value()],
            "ld.shared.v2.f32 {$0, $1}, [$2];",
            "=f,=f,r,~{memory}",
            has_side_effects=True,
        )
        found += [Float32(llvm.extractvalue(Float32.mlir_type, pair, [j])) for j in range(2)]
    return found


def promote_64_rows(registers, first, partial, count, rows, columns):
    """Add a thread's `count` partial sums of 64 rows, each times its factor, to registers first..: one rounding each.

    `rows` has the factors of this thread's two rows, `columns` those of its columns; None where `rows` has both.
    """
    for i in range(count):
        factor = rows[i // 2 % 2]
        if columns is not None:
            factor = mul(factor, columns[i // 4 * 2 + i % 2])
        registers[first + i] = fma(partial[i], factor, registers[first + i])


def operand_descriptor(buffer):
    """The wgmma descriptor of rows of 128 bytes, 128-byte swizzle, groups of 8 rows 1024 bytes apart."""
    return Int64(1 << 62 | 64 << 32 | 1 << 16) | Int64(shared_address(buffer) >> 4 & 0x3FFF)
