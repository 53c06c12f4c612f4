def put_part(registers, count, address, pitch):
    """A thread's sums of a part of K to global memory, four at a time, `pitch` bytes apart."""
    for i in range(0, count, 4):
        store_4_words(address + pitch * (i // 4), [bits(registers[i + j]) for j in range(4)], True)


def add_part(registers, count, address, pitch):
    """Add the sums of a part of K that a thread has put there."""
    for i in range(0, count, 4):
        words = load_4_words(address + pitch * (i // 4), True)
        for j in range(4):
            registers[i + j] = add(registers[i + j], from_bits(words[j]))


def arrive_part(address, parts):
    """Count a part of K that has arrived, with all that was stored of it: 1 for the last, which sees all parts, else 0.

    The count goes from the last part back to 0, and is ready for the next launch.
    """
    text = "atom.acq_rel.gpu.global.inc.u32 $0, [$1], $2;"
    values = [address.ir_value(), Int32(parts - 1).ir_value()]
    before = Int32(llvm.inline_asm(Int32.mlir_type, values, text, "=r,l,r,~{memory}", has_side_effects=True))
    return where_int(before == parts - 1, 1, 0)


def add_word(address, word, valid):
    """Add the f32 with these bits to one in global memory, if valid. Nobody waits for it."""
    add = "mov.b32 x, $1; @p red.relaxed.gpu.global.add.f32 [$0], x;"
    text = "{ .reg .pred p; .reg .f32 x; setp.ne.b32 p, $2, 0; %s }" % add
    values = [address.ir_value(), word.ir_value(), Int32(valid).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,r,~{memory}", has_side_effects=True)


def add_elements(address, pitch, words, left, valid):
    """Add 32 elements to those in memory, `pitch` bytes apart, those before column `left`."""
    for j in range(32):
        add_word(address + Int64(pitch) * j, words[j], both(valid, left > j))


@cute.jit
def add_rows_to(slab, address, pitch, lane, row_bytes: cutlass.Constexpr, width: cutlass.Constexpr, rows, units):
    """Add a slab of 32 rows of 32 floats to those in global memory, a row at a time, within `rows` and `units`.

    Rows are swizzled in the slab, and begin `pitch` bytes after one another in global memory.
    """
    for row in cutlass.range(32, unroll=1):
        word = shared_load_word(slab + row * row_bytes + (lane * width ^ ((row & 7) << 4)), width)
        add_word(address + Int64(pitch) * row + lane * width, word, both(row < rows, lane < units))
