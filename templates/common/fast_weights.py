def codes_of_two_rows(address, further, selector):
    """A lane's e2m1 of two rows, `further` bytes apart, and 128 along K: for each row and each 32 of K a word.

    Rows have 64 bytes in the 64-byte swizzle, which `address` has for the first 16. Of each 16 codes a lane has four,
    half of a word that `selector` picks; those of the first 16 of 32 are the low half of what it gets.
    """
    rows = []
    for i in range(2):
        row = []
        for j in range(4):
            place = (address ^ 16 * j) + further * i
            row.append(byte_of_each(selector, shared_load_word(place, 4), shared_load_word(place + 8, 4)))
        rows.append(row)
    return rows


def byte_of(word, i):
    """Byte i of a word."""
    return word >> 8 * i & 0xFF


def lowest_of_range(word):
    """The lowest of the 27 scales beside which e5m2 holds e2m1, of four of a row: 16 below their largest.

    Where that is 0, as of zeros, it is 16 below 2^-8.
    """
    largest = byte_of(word, 0)
    for i in range(1, 4):
        largest = larger_word(largest, byte_of(word, i))
    largest = where_int(largest == 0, 119, largest)
    return larger_word(smaller_word(largest, 242), 16) - 16


def larger_word(a, b):
    """The larger of two unsigned words."""
    return word_asm("max.u32 $0, $1, $2;", "=r,r,r", a, Int32(b))


def smaller_word(a, b):
    """The smaller of two unsigned words."""
    return word_asm("min.u32 $0, $1, $2;", "=r,r,r", a, Int32(b))


def beyond_range(words, lows):
    """1 where one of the four scales of either row is none of the 27 from its lowest on, else 0."""
    largest = Int32(0)
    for word, low in zip(words, lows):
        for i in range(4):
            largest = larger_word(largest, byte_of(word, i) - low)
    return where_int(cutlass.Uint32(largest) > 26, 1, 0)


def beyond_and_used(codes, words, lows):
    """1 where a lane has weights of such a scale that are not zeros, or a scale is NaN, else 0."""
    found = cutlass.Boolean(False)
    for row, word, low in zip(codes, words, lows):
        for i in range(4):
            scale = byte_of(word, i)
            used = either(row[i] & 0x77777777 != 0, scale == 255)
            found = either(found, both(cutlass.Uint32(scale - low) > 26, used))
    return where_int(found, 1, 0)


def range_factor(low):
    """What sums relative to the lowest scale of a row are multiplied by: its weights are e5m2 times 2^-13 there."""
    return from_bits(low + 13 << 23)


def scale_rows(registers, count, factors):
    """Multiply a thread's sums of two rows, each by its factor."""
    for i in range(count):
        registers[i] = mul(registers[i], factors[i // 2 % 2])


def f32_of_e8m0(code):
    """The value of an e8m0 code other than NaN, which is infinite here."""
    return from_bits(where_int(code == 0, 0x00400000, code << 23))


def bytes_of_e2m1(codes, low, high):
    """Eight e2m1 as the bytes that two words have for their magnitudes, with their signs: two words of four."""
    magnitudes, signs = codes & 0x77777777, codes >> 1 & 0x44444444
    negative = Int32(0x80808080 - (1 << 32))
    return [
        byte_of_each(magnitudes >> shift, low, high) | byte_of_each(signs >> shift, Int32(0), negative)
        for shift in (0, 16)
    ]


def fragments_of_e5m2(codes, words, lows):
    """A's registers for 128 along K, four for each 32 (PTX ISA, wgmma, register fragment of A): e2m1 as e5m2.

    0.5 at the lowest scale of a row is the smallest normal e5m2, 6 at the 26th above it 49152.
    """
    rows = []
    for row, word, low in zip(codes, words, lows):
        made = []
        for i in range(4):
            above = byte_of(word, i) - low
            made.append(bytes_of_e2m1(row[i], above * 0x04040400 + 0x0A080400, above * 0x04040404 + 0x12100E0C))
        rows.append(made)
    return [[rows[0][i][0], rows[1][i][0], rows[0][i][1], rows[1][i][1]] for i in range(4)]


def fragment_of_block(codes, i, scales, infinite):
    """The same for the 32 of K number i by themselves, at scale 1; all are NaN where the scale is.

    `infinite`: so are those that their scale makes 2^128 or more, as in an operand beside a plain one.
    """
    rows = []
    for row, scale in zip(codes, scales):
        low, high = Int32(0x3E3C3800), Int32(0x46444240)
        if infinite:
            high = where_int(scale == 253, 0x7C7C4240, high)
            high = where_int(scale == 254, 0x7C7C7C7C, high)
        low, high = (where_int(scale == 255, 0x7F7F7F7F, table) for table in (low, high))
        rows.append(bytes_of_e2m1(row[i], low, high))
    return [rows[0][0], rows[1][0], rows[0][1], rows[1][1]]


def mma_of_fp8_from_registers(registers, columns, elements, a, b, keep):
    """Registers 0.. += A B for 64 rows, `columns` and 32 of K: A by four registers, B by a descriptor.

    Without `keep` what was in the registers does not count; the compiler still sees that they stay the same ones.
    """
    count = columns // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    fragment = ", ".join(f"${2 * count + i}" for i in range(4))
    text = "wgmma.mma_async.sync.aligned.m64n%dk32.f32.%s {%s}, {%s}, $%d, %d, 1, 1;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[i] for i in range(count)], *a, b)],
        text % (columns, elements, outputs, fragment, 2 * count + 4, keep),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "r", "r", "r", "r", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))
