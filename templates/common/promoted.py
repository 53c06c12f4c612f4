def exchange_row(address, sums):
    """This thread's row of sums to shared memory, four at a time."""
    for i in range(0, len(sums), 4):
        shared_store_4_words(address + 4 * i, [bits(x) for x in sums[i : i + 4]])


def promote(registers, first, partial, factors):
    """Add a sub-tile of partial sums, each times its factor, to the sums in registers: one rounding an element."""
    for i in range(len(partial)):
        registers[first + i] = fma(partial[i], factors[i], registers[first + i])


def factors_of_columns(a_factor, address, count):
    """The products of this row's factor and the factors of `count` columns in shared memory."""
    words = [word for i in range(0, count, 4) for word in shared_load_4_words(address + 4 * i)]
    return [mul(a_factor, from_bits(word)) for word in words]
