def row_numbers(pointer, before, first, end, lane, count):
    """The numbers of `count` rows from `first` on, of which lane i has those i, 32 + i, ...; -1, no row, from `end` on.

    `before`: numbers in front of those of row 0.
    """
    numbers = []
    for further in range(0, count, 32):
        row = first + further + lane
        number = load_b32(global_address(pointer, Int64(before) + row, 4), row < end)
        numbers.append(where_int(row < end, number, -1))
    return numbers


def load_rows(buffer, offset, tensor_map, k, numbers, lane, full):
    """Have TMA bring 128 bytes from k on of rows that lanes have the numbers of; of a row that there is not, zeros."""
    for i, number in enumerate(numbers):
        place = buffer.subview(offset + (32 * i + lane) * 128)
        prims.cp_async_bulk_tensor_shared_cta_global(place, tensor_map.get_ptr(), (k, number), full)


def load_rows_in_cluster(buffer, offset, tensor_map, k, numbers, lane, full, **how):
    """The same to several CTAs, or for an instruction of two."""
    for i, number in enumerate(numbers):
        place = buffer.subview(offset + (32 * i + lane) * 128)
        prims.cp_async_bulk_tensor_shared_cluster_global(place, tensor_map.get_ptr(), (k, number), full, [], **how)


def row_number(pointer, place, valid, there):
    """The number of a row, and whether there is such a row, of `there`; no access where `valid` is false."""
    number = load_b32(global_address(pointer, place, 4), valid)
    return number, both(valid, both(number >= 0, number < there))


def is_row(pointer, place, valid, there):
    """Whether a number is that of a row."""
    return row_number(pointer, place, valid, there)[1]


@cute.jit
def copy_rows_to(slab, address, pitch, lane, number, row_bytes: cutlass.Constexpr, width: cutlass.Constexpr, units):
    """Store a slab of 32 rows to global memory, that of lane i to row `number` of it, if that is none below 0.

    As `copy_rows_out`: in units of `width` bytes, of which `units` of a row are stored; rows lie `pitch` bytes apart.
    """
    count = row_bytes // width
    shift = {128: 0, 64: 1, 32: 2}.get(row_bytes, 3)
    mask = {128: 7, 64: 3, 32: 1}.get(row_bytes, 0)
    for i in cutlass.range(count, unroll=1):
        unit = (i * 32 + lane) % count
        row = (i * 32 + lane) // count
        source = unit * width ^ ((row >> shift & mask) << 4)
        word = shared_load_word(slab + row * row_bytes + source, width)
        there = lane_of(number, row)
        target = address + Int64(pitch) * there + unit * width
        store_word({4: "b32", 2: "b16", 1: "b8"}[width], target, word, both(there >= 0, unit < units))
