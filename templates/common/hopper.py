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


def bf16_pairs_of_e4m3(word):
    """Four e4m3 as bf16: two words of two. Exact: bf16 has every e4m3."""
    floats = unpack_e4m3(word)
    return [pack_bf16(floats[0:2]), pack_bf16(floats[2:4])]


def bf16_pairs_of_e5m2(word):
    """Four e5m2 as bf16: two words of two. Exact: bf16 has every e5m2."""
    floats = unpack_e5m2(word)
    return [pack_bf16(floats[0:2]), pack_bf16(floats[2:4])]


def bf16_pairs_of_e2m1(word):
    """Eight e2m1 as bf16: four words of two.

    An e2m1's three magnitude bits, put where a bf16 keeps the low bits of its exponent and the first of its fraction,
    are the same number times 2^-126; the product by 2^126 is exact, subnormals included.
    """
    pairs = []
    for i in range(4):
        text = (
            "{ .reg .b32 pair, bits; shr.b32 pair, $1, %d; shl.b32 $0, pair, 6; and.b32 $0, $0, 0x1C0; "
            "shl.b32 bits, pair, 12; and.b32 bits, bits, 0x8000; or.b32 $0, $0, bits; "
            "shl.b32 bits, pair, 18; and.b32 bits, bits, 0x1C00000; or.b32 $0, $0, bits; "
            "shl.b32 bits, pair, 24; and.b32 bits, bits, 0x80000000; or.b32 $0, $0, bits; "
            "mov.b32 bits, 0x7E807E80; mul.rn.bf16x2 $0, $0, bits; }"
        )
        pairs.append(word_asm(text % (8 * i), "=&r,r", word))
    return pairs


def bf16_scales_of_e4m3(word):
    """Four e4m3 scales, each twice in a word as bf16."""
    return [pack_bf16([scale, scale]) for scale in unpack_e4m3(word)]


def bf16_scales_of_e8m0(word):
    """Four e8m0 scales, each twice in a word as bf16: the code is the exponent field, 0 is 2^-127, 0xFF is NaN."""
    text = (
        "{ .reg .b32 code; .reg .pred zero, nan; bfe.u32 code, $1, %d, 8; setp.eq.u32 zero, code, 0; "
        "setp.eq.u32 nan, code, 255; shl.b32 $0, code, 7; selp.b32 $0, 0x40, $0, zero; selp.b32 $0, 0x7FFF, $0, nan; "
        "prmt.b32 $0, $0, $0, 0x1010; }"
    )
    return [word_asm(text % (8 * i), "=&r,r", word) for i in range(4)]


def scaled(pair, scale):
    """Two bf16 by a scale each: exact while the product is a normal bf16."""
    return word_asm("mul.rn.bf16x2 $0, $1, $2;", "=r,r,r", pair, scale)


def clear(registers, count):
    """Set registers to 0."""
    for i in range(count):
        registers[i] = Float32(0.0)


def mma_64_rows(registers, first, a, b):
    """Registers first.. += A B for 64 rows, 128 columns and 16 of K, bf16 by descriptors: 64 sums a thread."""
    count = 64
    outputs = ", ".join(f"${i}" for i in range(count))
    text = "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%s}, $%d, $%d, 1, 1, 1, 0, 0;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[first + i] for i in range(count)], a, b)],
        text % (outputs, 2 * count, 2 * count + 1),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "l", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def operand_descriptor(buffer):
    """The wgmma descriptor of rows of 128 bytes, 128-byte swizzle, groups of 8 rows 1024 bytes apart."""
    return Int64(1 << 62 | 64 << 32 | 1 << 16) | Int64(shared_address(buffer) >> 4 & 0x3FFF)
