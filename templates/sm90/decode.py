def load_run(address, count, width, left, valid):
    """`count` vectors of `width` bytes of global memory, as words, past L1; zeros from byte `left` on and if not valid.

    Weights are read once, so they would only drive what is read again from L1; the rest of a row's line comes next.
    """
    words = width // 4
    names = ["$%d" % i for i in range(words)]
    vector, found = ("{%s}" % ", ".join(names), ".v%d" % words) if words > 1 else (names[0], "")
    text = "{ .reg .pred p; setp.ne.b32 p, $%d, 0; %s @p ld.global.L1::no_allocate.L2::128B%s.b32 %s, [$%d]; }"
    zeros = " ".join("mov.b32 %s, 0;" % name for name in names)
    return run_of_vectors(text % (words + 1, zeros, found, vector, words), address, count, width, left, valid)


def load_reused_run(address, count, width, left, valid):
    """The same of what other warps and CTAs read too."""
    words = width // 4
    names = ["$%d" % i for i in range(words)]
    vector, found = ("{%s}" % ", ".join(names), ".v%d" % words) if words > 1 else (names[0], "")
    text = "{ .reg .pred p; setp.ne.b32 p, $%d, 0; %s @p ld.global%s.b32 %s, [$%d]; }"
    zeros = " ".join("mov.b32 %s, 0;" % name for name in names)
    return run_of_vectors(text % (words + 1, zeros, found, vector, words), address, count, width, left, valid)


def run_of_vectors(text, address, count, width, left, valid):
    """Vectors of words by the PTX of one load."""
    words, found = width // 4, []
    kind = llvm.StructType.get_literal([Int32.mlir_type] * words) if words > 1 else Int32.mlir_type
    constraints = ",".join([*["=&r"] * words, "l,r,~{memory}"])
    for i in range(count):
        values = [(address + i * width).ir_value(), Int32(both(valid, left > i * width)).ir_value()]
        loaded = llvm.inline_asm(kind, values, text, constraints, has_side_effects=True)
        parts = [llvm.extractvalue(Int32.mlir_type, loaded, [j]) for j in range(words)] if words > 1 else [loaded]
        found += [Int32(part) for part in parts]
    return found


def keep(registers, first, words):
    """Words into registers first.. of an array."""
    for i, word in enumerate(words):
        registers[first + i] = word


def kept(registers, first, count):
    """`count` words of an array of registers."""
    return [registers[first + i] for i in range(count)]


def nibbles_apart(word, first, shift):
    """Nibbles `first` and `first` + 4 of a word in a half each: the sign on top, the others from bit `shift` on."""
    if first > 1:
        word, first = word_asm("shr.u32 $0, $1, 8;", "=r,r", word), first - 2
    mask = 0x000F000F << 4 * first
    kept = 0x80008000 | 0x00070007 << shift
    if shift < 9:  # one product is both shifts: copies of a nibble do not overlap
        text = "{ .reg .b32 x; and.b32 x, $1, 0x%X; mul.lo.u32 x, x, %d; and.b32 $0, x, 0x%X; }"
        return word_asm(text % (mask, (1 << 12 - 4 * first) + (1 << shift - 4 * first), kept), "=r,r", word)
    text = (
        "{ .reg .b32 x, y; shl.b32 x, $1, %d; shl.b32 y, $1, %d; and.b32 x, x, 0x80008000; and.b32 y, y, 0x%X; "
        "or.b32 $0, x, y; }"
    )
    return word_asm(text % (12 - 4 * first, shift - 4 * first, 0x00070007 << shift), "=r,r", word)


def turns_of_e2m1(words, wide):
    """Eight e2m1 a word as bf16 or f16: four words, of elements i and i + 4.

    A nibble's exponent and fraction, where the wider type keeps the lowest of its exponent and the highest of its
    fraction, are the same number times a power of two; the product by that power is exact.
    """
    fraction_bits, wide_bias = {"bf16": (7, 127), "f16": (10, 15)}[wide]
    factor = (2 * wide_bias - 1) << fraction_bits
    text = "{ .reg .b32 factor; mov.b32 factor, 0x%X; mul.rn.%sx2 $0, $1, factor; }" % (factor << 16 | factor, wide)
    apart = [nibbles_apart(word, i, fraction_bits - 1) for word in words for i in range(4)]
    return [word_asm(text, "=r,r", pair) for pair in apart]


def in_turns(pairs):
    """Words of neighbors as words of elements i and i + 4 of each eight."""
    found = []
    for i in range(0, len(pairs), 4):
        first, second, third, fourth = pairs[i : i + 4]
        for low, high in ((first, third), (second, fourth)):
            found += [joined(0x5410, low, high), joined(0x7632, low, high)]
    return found


def pairs_of_bf16(words, wide):
    """What is wide already."""
    return words


def pairs_of_f16(words, wide):
    """What is wide already."""
    return words


def mma_16_rows(registers, first, wide, a, b):
    """Registers first.. += A B for 16 rows, 8 columns and 16 of K, bf16 or f16: a lane's fragments, 4 sums."""
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * 4),
        [x.ir_value() for x in (*a, *b, *[registers[first + i] for i in range(4)])],
        "mma.sync.aligned.m16n8k16.row.col.f32.%s.%s.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, "
        "{$10, $11, $12, $13};" % (wide, wide),
        "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
    )
    for i in range(4):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def multiply_eights(registers, wide, weights, xs):
    """Add products of some elements along K: `weights` of rows 8 apart, `xs` of groups of 8 rows, as words of two."""
    groups = len(xs)
    for i in range(0, len(xs[0]), 2):
        for block in range(len(weights) // 2):
            low, high = weights[2 * block], weights[2 * block + 1]
            for group in range(groups):
                first = 4 * (groups * block + group)
                a = [low[i], high[i], low[i + 1], high[i + 1]]
                mma_16_rows(registers, first, wide, a, xs[group][i : i + 2])


def put_sums(registers, groups, columns, address, pitch, lane):
    """A warp's sums to rows of x in shared memory, `pitch` bytes apart: a lane has some of each 16 columns."""
    for block in range(columns // 16):
        for group in range(groups):
            for i in range(4):
                row, column = 8 * group + lane % 4 * 2 + i % 2, 16 * block + 8 * (i // 2) + lane // 4
                shared_store_f32(address + row * pitch + 4 * column, registers[4 * (groups * block + group) + i])


@cute.jit
def add_shares(
    address,
    thread,
    threads: cutlass.Constexpr,
    shares: cutlass.Constexpr,
    rows: cutlass.Constexpr,
    columns: cutlass.Constexpr,
    pitch: cutlass.Constexpr,
):
    """Add the sums of all shares of K to those of the first, in their order: four columns a thread at a time."""
    for i in cutlass.range_constexpr(-(-rows * columns // (4 * threads))):
        place = i * threads + thread
        if place < rows * columns // 4:
            four = address + place // (columns // 4) * pitch + place % (columns // 4) * 16
            total = shared_load_4_f32(four)
            for share in cutlass.range_constexpr(1, shares):
                more = shared_load_4_f32(four + share * rows * pitch)
                total = [add(x, y) for x, y in zip(total, more)]
            shared_store_4_words(four, [bits(x) for x in total])
