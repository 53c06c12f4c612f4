def lane_of(x, lane):
    """What a lane has, in all lanes of the warp."""
    return prims.shfl_sync(cute.arch.FULL_MASK, x, lane, 31, prims.Shfl.IDX)


def sum_up_to(x, lane):
    """The sum of what the lanes up to this one have."""
    for step in (1, 2, 4, 8, 16):
        other = prims.shfl_sync(cute.arch.FULL_MASK, x, step, 0, prims.Shfl.UP)
        x = x + where_int(lane >= step, other, 0)
    return x


def rows_of_group(pointer, ragged, groups, group, rows):
    """The first row of a group and the row after its last, of `rows` at most; no rows past the last group.

    `ragged`: `pointer` has the first row of each group and the end of the last; else the number of rows of each.
    """
    inside = group < groups
    address = global_address(pointer, group, 4)
    if ragged:
        start = cutlass.max(cutlass.min(load_b32(address, inside), rows), 0)
        end = cutlass.min(load_b32(address + 4, inside), rows)
        return start, cutlass.max(end, start)
    return Int32(0), cutlass.max(cutlass.min(load_b32(address, inside), rows), 0)


def part_of_k(pointer, ragged, group, rows, step, most):
    """The contracted rows of a group: the first of them, how many, and the steps of `step` rows that cover them.

    An empty group has one step, of zeros; where there are no rows at all there is none (`most` is 0).
    """
    start, end = rows_of_group(pointer, ragged, group + 1, group, rows)
    return start, end - start, cutlass.min(cutlass.max(tiles_of(start, end, step), 1), most)


def part_of_k_by_blocks(pointer, ragged, group, rows, step, most):
    """The same of operands with block scales along the rows, where groups start at multiples of 32."""
    start, end = rows_of_group(pointer, ragged, group + 1, group, rows)
    start, end = start & -32, end & -32  # TMA takes no other start; of a wrong one the numbers are wrong
    return start, end - start, cutlass.min(cutlass.max(tiles_of(start, end, step), 1), most)


@cute.jit
def clear_past_blocks(
    address, rows: cutlass.Constexpr, left, chunk: cutlass.Constexpr, thread, threads: cutlass.Constexpr
):
    """Set elements from number `left` on to 0 in `rows` rows of 128 bytes in the 128-byte swizzle.

    A chunk of 16 bytes has `chunk` elements; `left` is a multiple of it. `threads` call it together.
    """
    zero = Int32(0)
    for row in cutlass.range(thread, rows, threads, unroll=1):
        for i in cutlass.range(left // chunk, 8, unroll=1):
            shared_store_4_words(address + row * 128 + ((i ^ row & 7) << 4), [zero, zero, zero, zero])


@cute.jit
def clear_past(address, runs: cutlass.Constexpr, row, rows: cutlass.Constexpr, thread, threads: cutlass.Constexpr):
    """Set rows from `row` on to 0 of each of `runs` runs of `rows` rows of 128 bytes. `threads` call it together."""
    zero = Int32(0)
    for run in cutlass.range_constexpr(runs):
        for i in cutlass.range(row * 8 + thread, rows * 8, threads, unroll=1):
            shared_store_4_words(address + run * (rows * 128) + 16 * i, [zero, zero, zero, zero])


def tiles_of(start, end, tile_rows):
    """The tiles of `tile_rows` rows, a power of two, that cover rows."""
    return (end - start + (tile_rows - 1)) >> (tile_rows.bit_length() - 1)


@cute.jit
def count_tiles(pointer, ragged: cutlass.Constexpr, groups, rows, tile_rows: cutlass.Constexpr, lane):
    """The tiles of `tile_rows` rows of all groups, each of which starts a new one. All lanes of a warp call it."""
    total = Int32(0)
    for first in cutlass.range(0, groups, 32, unroll=1):
        start, end = rows_of_group(pointer, ragged, groups, first + lane, rows)
        total += lane_of(sum_up_to(tiles_of(start, end, tile_rows), lane), 31)
    return total


@cute.jit
def find_group(
    pointer,
    ragged: cutlass.Constexpr,
    groups,
    rows,
    tile_rows: cutlass.Constexpr,
    row_tile,
    group0,
    tiles0,
    atoms0,
    lane,
):
    """The group that tile number `row_tile` of `count_tiles` is of. All lanes of a warp call it.

    The search goes on from group `group0`, before which there are `tiles0` tiles and `atoms0` rows of scale atoms, 32
    groups at a time; gives from where the next one may, then the group, its first row, the row after its last, its
    tiles, and the tiles and rows of atoms before it.
    """
    start, end = rows_of_group(pointer, ragged, groups, group0 + lane, rows)
    tiles, atoms = tiles_of(start, end, tile_rows), tiles_of(start, end, 128)
    tiles_up_to, atoms_up_to = sum_up_to(tiles, lane), sum_up_to(atoms, lane)
    while both(tiles0 + lane_of(tiles_up_to, 31) <= row_tile, group0 + 32 < groups):
        tiles0 += lane_of(tiles_up_to, 31)
        atoms0 += lane_of(atoms_up_to, 31)
        group0 += 32
        start, end = rows_of_group(pointer, ragged, groups, group0 + lane, rows)
        tiles, atoms = tiles_of(start, end, tile_rows), tiles_of(start, end, 128)
        tiles_up_to, atoms_up_to = sum_up_to(tiles, lane), sum_up_to(atoms, lane)
    found = cute.arch.popc(cute.arch.vote_ballot_sync(tiles0 + tiles_up_to <= row_tile))
    found = cutlass.min(Int32(found), 31)
    return (
        group0,
        tiles0,
        atoms0,
        group0 + found,
        lane_of(start, found),
        lane_of(end, found),
        lane_of(tiles, found),
        tiles0 + lane_of(tiles_up_to - tiles, found),
        atoms0 + lane_of(atoms_up_to - atoms, found),
    )
