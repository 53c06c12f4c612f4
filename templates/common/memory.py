def word_asm(text, constraints, *operands):
    """PTX that gives one 32-bit word."""
    values = [x.ir_value() for x in operands]
    return Int32(llvm.inline_asm(Int32.mlir_type, values, text, constraints))


def pack_f32(x):
    """One float as a word."""
    return bits(x[0])


def pack_bf16(x):
    """Two floats rounded to bf16, the first in the low half."""
    return word_asm("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", *x)


def pack_f16(x):
    """Two floats rounded to f16, the first in the low half."""
    return word_asm("cvt.rn.f16x2.f32 $0, $2, $1;", "=r,f,f", *x)


def pack_e4m3(x):
    """Four floats rounded to e4m3 (saturating), the first in the low byte."""
    return word_asm(
        "{ .reg .b16 low, high; cvt.rn.satfinite.e4m3x2.f32 low, $2, $1; "
        "cvt.rn.satfinite.e4m3x2.f32 high, $4, $3; mov.b32 $0, {low, high}; }",
        "=r,f,f,f,f",
        *x,
    )


def pack_e5m2(x):
    """Four floats rounded to e5m2 (saturating), the first in the low byte."""
    return word_asm(
        "{ .reg .b16 low, high; cvt.rn.satfinite.e5m2x2.f32 low, $2, $1; "
        "cvt.rn.satfinite.e5m2x2.f32 high, $4, $3; mov.b32 $0, {low, high}; }",
        "=r,f,f,f,f",
        *x,
    )


def unpack_f32(word):
    """The float in a word."""
    return [from_bits(word)]


def unpack_i32(word):
    """The integer in a word, rounded to f32."""
    return [f32_of_word("cvt.rn.f32.s32 $0, $1;", word)]


def unpack_u32(word):
    """The unsigned integer in a word, rounded to f32."""
    return [f32_of_word("cvt.rn.f32.u32 $0, $1;", word)]


def unpack_bf16(word):
    """The two bf16 in a word, the low half first."""
    return [from_bits(word << 16), from_bits(word & -65536)]


def unpack_f16(word):
    """The two f16 in a word, the low half first."""
    return [
        f32_of_word("{ .reg .b16 low, high; mov.b32 {low, high}, $1; cvt.f32.f16 $0, low; }", word),
        f32_of_word("{ .reg .b16 low, high; mov.b32 {low, high}, $1; cvt.f32.f16 $0, high; }", word),
    ]


def unpack_e4m3(word):
    """The four e4m3 in a word, the low byte first."""
    low = word_asm("{ .reg .b16 x, y; mov.b32 {x, y}, $1; cvt.rn.f16x2.e4m3x2 $0, x; }", "=r,r", word)
    high = word_asm("{ .reg .b16 x, y; mov.b32 {x, y}, $1; cvt.rn.f16x2.e4m3x2 $0, y; }", "=r,r", word)
    return [*unpack_f16(low), *unpack_f16(high)]


def unpack_e5m2(word):
    """The four e5m2 in a word, the low byte first."""
    low = word_asm("{ .reg .b16 x, y; mov.b32 {x, y}, $1; cvt.rn.f16x2.e5m2x2 $0, x; }", "=r,r", word)
    high = word_asm("{ .reg .b16 x, y; mov.b32 {x, y}, $1; cvt.rn.f16x2.e5m2x2 $0, y; }", "=r,r", word)
    return [*unpack_f16(low), *unpack_f16(high)]


def f32_of_word(text, word):
    """PTX that makes a float of one 32-bit word."""
    return Float32(llvm.inline_asm(Float32.mlir_type, [word.ir_value()], text, "=f,r"))


def global_address(pointer, offset, width):
    """The address of element `offset` of `width` bytes."""
    return pointer.toint(Int64) + Int64(offset) * width


def load_b32(address, valid):
    """A 32-bit word of global memory; 0, and no access, where `valid` is false."""
    return load_word("b32", address, valid)


def load_b16(address, valid):
    """16 bits of global memory in the low half of a word; 0, and no access, where `valid` is false."""
    return load_word("u16", address, valid)


def load_b8(address, valid):
    """A byte of global memory in the low byte of a word; 0, and no access, where `valid` is false."""
    return load_word("u8", address, valid)


def load_word(type_name, address, valid):
    """A predicated load from global memory into a zero-extended word."""
    text = "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.b32 $0, 0; @p ld.global.%s $0, [$1]; }" % type_name
    values = [address.ir_value(), Int32(valid).ir_value()]
    return Int32(llvm.inline_asm(Int32.mlir_type, values, text, "=&r,l,r,~{memory}", has_side_effects=True))


def load_4_words(address, valid):
    """16 bytes of global memory, 16-byte aligned; zeros, and no access, where `valid` is false."""
    words = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * 4),
        [address.ir_value(), Int32(valid).ir_value()],
        "{ .reg .pred p; setp.ne.b32 p, $5, 0; mov.b32 $0, 0; mov.b32 $1, 0; mov.b32 $2, 0; mov.b32 $3, 0; "
        "@p ld.global.v4.b32 {$0, $1, $2, $3}, [$4]; }",
        "=&r,=&r,=&r,=&r,l,r,~{memory}",
        has_side_effects=True,
    )
    return [Int32(llvm.extractvalue(Int32.mlir_type, words, [i])) for i in range(4)]


def store_word(type_name, address, word, valid):
    """A predicated store of the low bits of a word to global memory."""
    text = "{ .reg .pred p; setp.ne.b32 p, $2, 0; @p st.global.%s [$0], $1; }" % type_name
    values = [address.ir_value(), word.ir_value(), Int32(valid).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,r,~{memory}", has_side_effects=True)


def half_of(x, group, part):
    """The first or second half (part 0 or 1) of a list whose halves take turns in groups."""
    return [x[j // group * 2 * group + part * group + j % group] for j in range(len(x) // 2)]


def shared_address(buffer):
    """The 32-bit address of a buffer in shared memory."""
    return buffer.data_ptr().toint(Int32)


def shared_load_f32(address):
    """A float of shared memory."""
    text = "ld.shared.f32 $0, [$1];"
    values = [address.ir_value()]
    return Float32(llvm.inline_asm(Float32.mlir_type, values, text, "=f,r,~{memory}", has_side_effects=True))


def shared_floats(address, pitch, count):
    """`count` floats of shared memory, `pitch` bytes apart."""
    return [shared_load_f32(address + pitch * i) for i in range(count)]


def shared_store_f32(address, x):
    """A float to shared memory."""
    values = [address.ir_value(), x.ir_value()]
    llvm.inline_asm(None, values, "st.shared.f32 [$0], $1;", "r,f,~{memory}", has_side_effects=True)


def shared_load_4_f32(address):
    """Four floats of shared memory, 16-byte aligned."""
    floats = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * 4),
        [address.ir_value()],
        "ld.shared.v4.f32 {$0, $1, $2, $3}, [$4];",
        "=f,=f,=f,=f,r,~{memory}",
        has_side_effects=True,
    )
    return [Float32(llvm.extractvalue(Float32.mlir_type, floats, [i])) for i in range(4)]


def shared_load_32_f32(address):
    """32 floats of shared memory, 16-byte aligned."""
    return [x for i in range(8) for x in shared_load_4_f32(address + 16 * i)]


def shared_store_4_words(address, words):
    """Four words to shared memory, 16-byte aligned."""
    values = [address.ir_value(), *[word.ir_value() for word in words]]
    text = "st.shared.v4.b32 [$0], {$1, $2, $3, $4};"
    llvm.inline_asm(None, values, text, "r,r,r,r,r,~{memory}", has_side_effects=True)


def load_f32(address, valid):
    """An f32 of global memory, 0 where not valid."""
    return from_bits(load_b32(address, valid))


def load_i32(address, valid):
    """An i32 of global memory as f32, 0 where not valid."""
    return unpack_i32(load_b32(address, valid))[0]


def load_u32(address, valid):
    """A u32 of global memory as f32, 0 where not valid."""
    return unpack_u32(load_b32(address, valid))[0]


def load_bf16(address, valid):
    """A bf16 of global memory, 0 where not valid."""
    return unpack_bf16(load_b16(address, valid))[0]


def load_f16(address, valid):
    """An f16 of global memory, 0 where not valid."""
    return unpack_f16(load_b16(address, valid))[0]


def load_e4m3(address, valid):
    """An e4m3 of global memory, 0 where not valid."""
    return unpack_e4m3(load_b8(address, valid))[0]


def load_e5m2(address, valid):
    """An e5m2 of global memory, 0 where not valid."""
    return unpack_e5m2(load_b8(address, valid))[0]


def load_vectors(unpack, address, width, left, valid, count=32):
    """Adjacent elements of `width` bytes, 16 bytes a load; 0 from column `left` on and where not valid."""
    values = []
    for i in range(count * width // 16):
        for word in load_4_words(address + 16 * i, both(valid, left > 16 // width * i)):
            values.extend(unpack(word))
    return values


def load_elements(load, address, pitch, left, valid, count=32):
    """Elements `pitch` bytes apart, one a load; 0 from column `left` on and where not valid."""
    return [load(address + Int64(pitch) * j, both(valid, left > j)) for j in range(count)]


def store_vectors(address, words, left, valid):
    """Store words of a line, 16 bytes at once, those before byte `left`."""
    for i in range(len(words) // 4):
        store_4_words(address + 16 * i, words[4 * i : 4 * i + 4], both(valid, left > 16 * i))


def turned(words, lane):
    """Four chunks of four words of each of four lanes turned around: lane i has chunk i of each, in their order."""
    chunks = [words[4 * i : 4 * i + 4] for i in range(4)]
    for distance in (1, 2):
        later = lane & distance != 0
        for i in (0, 1) if distance == 2 else (0, 2):
            mine, other = chunks[i], chunks[i + distance]
            sent = [where_int(later, a, b) for a, b in zip(mine, other)]
            got = [bits(lane_across(from_bits(word), distance)) for word in sent]
            chunks[i] = [where_int(later, new, old) for new, old in zip(got, mine)]
            chunks[i + distance] = [where_int(later, old, new) for new, old in zip(got, other)]
    return [word for chunk in chunks for word in chunk]


def store_turned(address, words, lane, left, valid):
    """Store 64 bytes of each of four lanes that share a row, each time 64 next to each other: whole sectors.

    `address` is that of the row's 256 bytes, of which `left` may be written, in units of 16 bytes.
    """
    words, place = turned(words, lane), 16 * (lane % 4)
    for i in range(4):
        store_4_words(address + place + 64 * i, words[4 * i : 4 * i + 4], both(valid, left - place > 64 * i))


def store_units(address, words, width, left, valid):
    """Store words of a line in units of `width` bytes, those before byte `left`."""
    for i in range(len(words) * 4 // width):
        unit = words[i * width // 4] >> 8 * (i * width % 4)
        store_word({4: "b32", 2: "b16", 1: "b8"}[width], address + width * i, unit, both(valid, left > width * i))


def store_4_words(address, words, valid):
    """A predicated store of four words to global memory, 16-byte aligned."""
    text = "{ .reg .pred p; setp.ne.b32 p, $5, 0; @p st.global.v4.b32 [$0], {$1, $2, $3, $4}; }"
    values = [address.ir_value(), *[word.ir_value() for word in words], Int32(valid).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,r,r,r,r,~{memory}", has_side_effects=True)


def stage_row(slab, lane, words):
    """Write this lane's row to a slab of 32 rows, its 16-byte chunks swizzled as TMA expects."""
    chunks = len(words) // 4
    turn = (lane >> {8: 0, 4: 1, 2: 2, 1: 3}[chunks]) & (chunks - 1)
    for i in range(chunks):
        shared_store_4_words(slab + lane * (16 * chunks) + ((turn ^ i) << 4), words[4 * i : 4 * i + 4])


def stage_row_of_words(slab, lane, words):
    """Write this lane's row to a slab of 32 rows as it is."""
    for i in range(len(words)):
        shared_store_f32(slab + lane * (4 * len(words)) + 4 * i, from_bits(words[i]))


@cute.jit
def copy_rows_out(slab, address, pitch, lane, row_bytes: cutlass.Constexpr, width: cutlass.Constexpr, rows, units):
    """Store a slab of 32 rows to global memory in units of `width` bytes, within `rows` and `units` of a row.

    A row has `row_bytes` in the slab, swizzled, and begins `pitch` bytes after the one before it in global memory.
    """
    count = row_bytes // width
    shift = {128: 0, 64: 1, 32: 2}.get(row_bytes, 3)
    mask = {128: 7, 64: 3, 32: 1}.get(row_bytes, 0)
    for i in cutlass.range(count, unroll=1):
        unit = (i * 32 + lane) % count
        row = (i * 32 + lane) // count
        source = unit * width ^ ((row >> shift & mask) << 4)
        word = shared_load_word(slab + row * row_bytes + source, width)
        target = address + Int64(pitch) * row + unit * width
        store_word({4: "b32", 2: "b16", 1: "b8"}[width], target, word, both(row < rows, unit < units))


def shared_load_word(address, width):
    """An element of `width` bytes of shared memory in the low bits of a word."""
    text = "ld.shared.%s $0, [$1];" % {4: "b32", 2: "u16", 1: "u8"}[width]
    return Int32(llvm.inline_asm(Int32.mlir_type, [address.ir_value()], text, "=r,r,~{memory}", has_side_effects=True))


def store_elements(address, pitch, words, type_name, left, valid):
    """Store 32 elements `pitch` bytes apart, those before column `left`."""
    for j in range(32):
        store_word(type_name, address + Int64(pitch) * j, words[j], both(valid, left > j))
