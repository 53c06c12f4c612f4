def load_words(address, count, valid):
    """Adjacent words of global memory, 2 or 4 aligned as a whole; zeros, and no access, where not valid."""
    if count not in (2, 4):
        return [load_b32(address + 4 * i, valid) for i in range(count)]
    if count == 4:
        return load_4_words(address, valid)
    words = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * 2),
        [address.ir_value(), Int32(valid).ir_value()],
        "{ .reg .pred p; setp.ne.b32 p, $3, 0; mov.b32 $0, 0; mov.b32 $1, 0; @p ld.global.v2.b32 {$0, $1}, [$2]; }",
        "=&r,=&r,l,r,~{memory}",
        has_side_effects=True,
    )
    return [Int32(llvm.extractvalue(Int32.mlir_type, words, [i])) for i in range(2)]


def gather_scales(addresses, width, left):
    """One-byte scales, `width` neighbors at each address, as words of four. From number `left` on none is read."""
    if width > 2:
        return [word for i, at in enumerate(addresses) for word in load_words(at, width // 4, left > width * i)]
    load = load_b8 if width == 1 else load_b16
    parts = [load(at, left > width * i) for i, at in enumerate(addresses)]
    words = []
    for first in range(0, len(parts), 4 // width):
        word = parts[first]
        for i, part in enumerate(parts[first + 1 : first + 4 // width], 1):
            word |= part << 8 * width * i
        words.append(word)
    return words


def first_bytes(word, count):
    """The first `count` bytes of a word, if there are so many; the others are 0."""
    text = "{ .reg .b32 others; shl.b32 others, -1, $2; not.b32 others, others; and.b32 $0, $1, others; }"
    return word_asm(text, "=r,r,r", word, cutlass.max(Int32(count), 0) << 3)


def put_scale_atoms(address, lane, rows, runs):
    """Scales of some of this lane's rows to a stage's atoms: 128 rows x 4 scales in 512 bytes, a lane's rows in 16.

    `rows` has words of four scales for each of the rows, which are lane, lane + 32, ... of `runs` runs of 128.
    """
    count = len(rows) // runs
    for run in range(runs):
        for atom in range(len(rows[0])):
            words = [row[atom] for row in rows[count * run : count * (run + 1)]]
            shared_store_words(address + (atom * runs + run) * 512 + lane * 16, words)


def shared_store_words(address, words):
    """1, 2 or 4 words to shared memory, aligned as a whole."""
    values = [address.ir_value(), *[word.ir_value() for word in words]]
    names = ", ".join(f"${i + 1}" for i in range(len(words)))
    vector = {1: "", 2: ".v2", 4: ".v4"}[len(words)]
    source = names if len(words) == 1 else "{%s}" % names
    text = f"st.shared{vector}.b32 [$0], {source};"
    llvm.inline_asm(None, values, text, ",".join(["r"] * len(values)) + ",~{memory}", has_side_effects=True)
