def lane_selector(quad, bits):
    """What lane `quad` of four needs to find its two of every eight codes: of prmt, or the bits before them."""
    return {4: quad * 0x1111 + 0x4040, 8: quad * 0x2222 + 0x1010, 6: quad * 12}[bits]


def byte_of_each(selector, first, second):
    """A word of bytes of two others: those that a prmt selector in a register names."""
    return word_asm("prmt.b32 $0, $1, $2, $3;", "=r,r,r,r", first, second, selector)


def lane_pairs_of_e2m1(words, wide, selector):
    """Of each word of eight e2m1 a lane's two, next to each other along K, as bf16 or f16.

    A lane has the same byte of each word, so two of these are taken together: in each half of a word their codes, the
    first of each byte for the low half, lie in the high bits of a byte each. The bits of exponent and fraction, put
    where the wider type has the lowest of its exponent and the highest of its fraction, are the same number times a
    power of two, subnormals included; the product by that power is exact.
    """
    bits, bias = {"bf16": (7, 127), "f16": (10, 15)}[wide]
    mask, factor = (half << 16 | half for half in (7 << bits - 1, 2 * bias - 1 << bits))
    # Of the magnitudes where the mask has ones, of the signs elsewhere. Signs of other bytes must not be there: in bf16
    # the mask's ones lie over them.
    text = (
        "{ .reg .b32 magnitude, sign; %s lop3.b32 magnitude, magnitude, 0x%X, sign, 0xE2; mov.b32 sign, 0x%X; "
        "mul.rn.%sx2 $0, magnitude, sign; }"
    )
    low = text % (f"shl.b32 magnitude, $1, {bits - 5}; shl.b32 sign, $2, 8;", mask, factor, wide)
    high = text % (f"shr.u32 magnitude, $1, {13 - bits}; mov.b32 sign, $2;", mask, factor, wide)
    pairs = []
    for i in range(0, len(words), 2):
        codes = byte_of_each(selector, words[i], words[i + 1])
        codes = word_asm("lop3.b32 $0, $1, 0xFFFF, $2, 0xE2;", "=r,r,r", codes << 4, codes)  # its low half, and ours
        signs = [codes & (0x80808080 - (1 << 32))] * 2
        if wide == "f16":
            signs = [codes & 0x00800080, codes & (0x80008000 - (1 << 32))]
        pairs += [word_asm(text, "=r,r,r", codes, sign) for text, sign in zip((low, high), signs)]
    return pairs


def lane_pairs_of_6_bits(words, element, wide, selector):
    """Of every eight codes of 6 bits a lane's two as bf16 or f16."""
    text = (
        "{ .reg .b64 both; .reg .b32 high; mov.b64 both, {$1, $2}; shr.u64 both, both, $3; mov.b64 {$0, high}, both; }"
    )
    pairs = []
    for i in range(len(words) * 32 // 48):
        first = 48 * i // 32
        codes = word_asm(text, "=r,r,r,r", words[first], words[first + 1], selector + 48 * i % 32)
        pairs.append(widened(codes & 0x3F | codes << 10 & 0x3F0000, element, wide))
    return pairs


def lane_pairs_of_e3m2(words, wide, selector):
    """e3m2 as bf16 or f16."""
    return lane_pairs_of_6_bits(words, "e3m2", wide, selector)


def lane_pairs_of_e2m3(words, wide, selector):
    """e2m3 as bf16 or f16."""
    return lane_pairs_of_6_bits(words, "e2m3", wide, selector)


def lane_pairs_of_8_bits(words, element, wide, selector):
    """Of every eight e4m3 or e5m2 a lane's two as bf16 or f16: a lane has the same half of each pair of words."""
    halves = [byte_of_each(selector, words[i], words[i + 1]) for i in range(0, len(words), 2)]
    return pairs_of_8_bits([joined(0x5410, halves[i], halves[i + 1]) for i in range(0, len(halves), 2)], element, wide)


def lane_pairs_of_e4m3(words, wide, selector):
    """e4m3 as bf16 or f16."""
    return lane_pairs_of_8_bits(words, "e4m3", wide, selector)


def lane_pairs_of_e5m2(words, wide, selector):
    """e5m2 as bf16 or f16."""
    return lane_pairs_of_8_bits(words, "e5m2", wide, selector)


def equal_pairs(words):
    """Each half of words twice in a word, in order: ptxas then multiplies by a half where it is."""
    text = "{ .reg .b16 low, high; mov.b32 {low, high}, $1; mov.b32 $0, {%s, %s}; }"
    return [word_asm(text % (half, half), "=r,r", word) for word in words for half in ("low", "high")]


def weight_fragments(address, further, chunks, lane_pairs, wide, selector, scales, per_scale):
    """A's registers for a stage of 64 along K, four for each 16 of it (PTX ISA, wgmma, register fragment of A).

    A lane has two rows, `further` bytes apart, of `chunks` times 16 bytes of codes each, and of every eight codes of
    them two. `scales` has words of two equal scales for each row, one for `per_scale` elements; None: there are none.
    """
    rows = []
    for i in range(2):
        row = address + further * i
        words = [word for j in range(chunks) for word in shared_load_4_words(row + 16 * j)]
        pairs = lane_pairs(words, wide, selector)
        if scales is not None:
            pairs = [scaled(pair, scales[i][8 * j // per_scale], wide) for j, pair in enumerate(pairs)]
        rows.append(pairs)
    return [[rows[0][j], rows[1][j], rows[0][j + 1], rows[1][j + 1]] for j in range(0, 8, 2)]


def turned_fragments(address, further, pairs, wide, scales, per_scale):
    """The same where the other operand's columns are turned: of each 32 a lane has eight bytes next to each other."""
    rows = []
    for i in range(2):
        words = [word for run in range(2) for word in shared_load_2_words(address + further * i + 32 * run)]
        made = pairs(words, wide)
        if scales is not None:
            made = [scaled(pair, scales[i][8 * j // per_scale], wide) for j, pair in enumerate(made)]
        rows.append(made)
    return [[rows[0][j], rows[1][j], rows[0][j + 1], rows[1][j + 1]] for j in range(0, 8, 2)]


def shared_load_2_words(address):
    """Eight bytes of shared memory, aligned as a whole."""
    words = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * 2),
        [address.ir_value()],
        "ld.shared.v2.b32 {$0, $1}, [$2];",
        "=r,=r,r,~{memory}",
        has_side_effects=True,
    )
    return [Int32(llvm.extractvalue(Int32.mlir_type, words, [i])) for i in range(2)]


def settled(fragments):
    """The same words, all of them made before what follows: wgmma.fence orders what was written before it."""
    words = [word for fragment in fragments for word in fragment]
    count = len(words)
    same = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * count),
        [word.ir_value() for word in words],
        "",
        ",".join([*["=r"] * count, *[str(i) for i in range(count)], "~{memory}"]),
        has_side_effects=True,
    )
    words = [Int32(llvm.extractvalue(Int32.mlir_type, same, [i])) for i in range(count)]
    return [words[i : i + 4] for i in range(0, count, 4)]


def mma_from_registers(registers, first, columns, wide, a, b):
    """Registers first.. += A B for 64 rows, `columns` and 16 of K, A by four registers, B by a descriptor."""
    count = columns // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    fragment = ", ".join(f"${2 * count + i}" for i in range(4))
    text = "wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s {%s}, {%s}, $%d, 1, 1, 1, 0;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[first + i] for i in range(count)], *a, b)],
        text % (columns, wide, wide, outputs, fragment, 2 * count + 4),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "r", "r", "r", "r", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def stage_transposed(values, pack, slab, lane, group):
    """Write 32 of a lane's results, of 64 columns of wgmma's D, as rows of 128 bytes in the 128-byte swizzle.

    A matrix of 8 x 8 is turned around by stmatrix; a warp, number `group` of its four, has 32 bytes of each row.
    """
    for i in range(0, 8, 2):
        words = [pack(values[4 * i + 2 * j : 4 * i + 2 * j + 2]) for j in range(4)]
        row = 8 * (i + lane // 16) + lane % 8
        address = slab + row * 128 + ((2 * group + lane // 8 % 2 ^ lane % 8) << 4)
        llvm.inline_asm(
            None,
            [address.ir_value(), *[word.ir_value() for word in words]],
            "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [$0], {$1, $2, $3, $4};",
            "r,r,r,r,r,~{memory}",
            has_side_effects=True,
        )


def store_transposed(registers, first, count, address, pitch):
    """Write `count` sums of wgmma's D, from register `first` on, as rows `pitch` bytes apart."""
    for i in range(count):
        offset = (i // 4 * 8 + i % 2) * pitch + i // 2 % 2 * 32
        shared_store_f32(address + offset, registers[first + i])


def put_partial(registers, count, address):
    """A thread's sums to shared memory, each beside those of the 127 other threads."""
    for i in range(count):
        shared_store_f32(address + 512 * i, registers[i])


def add_partial(registers, count, address):
    """Add the sums that another thread has put there."""
    for i in range(count):
        registers[i] = add(registers[i], shared_load_f32(address + 512 * i))
