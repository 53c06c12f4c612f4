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
