def fold(join, part, x, left):
    """Join the first `left` numbers of a list to `part`; NaN does not count."""
    for j in range(len(x)):
        part = join(part, where(left > j, x[j], from_bits(-1)))
    return part


def fold_lanes(join, part):
    """Join the parts of a warp's lanes."""
    for step in (16, 8, 4, 2, 1):
        part = join(part, from_bits(prims.shfl_sync(cute.arch.FULL_MASK, bits(part), step, 31, prims.Shfl.BFLY)))
    return part


def reduce_max(address, x, valid):
    """Raise an f32 of global memory to x. Bits of floats order as signed integers, those of negative ones reversed."""
    reduce_bits("max.s32", "min.u32", address, x, valid)


def reduce_min(address, x, valid):
    """Lower an f32 of global memory to x. Bits of floats order as signed integers, those of negative ones reversed."""
    reduce_bits("min.s32", "max.u32", address, x, valid)


def reduce_magnitude(address, x, valid):
    """Raise an f32 of global memory that is not negative to x, which is not either; a NaN is above all."""
    text = "{ .reg .pred p; setp.ne.b32 p, $2, 0; @p red.global.max.u32 [$0], $1; }"
    values = [address.ir_value(), bits(x).ir_value(), Int32(valid).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,r,~{memory}", has_side_effects=True)


def reduce_bits(positive, negative, address, x, valid):
    """An atomic on the bits of an f32, one for numbers with each sign; nothing where x is NaN or not valid."""
    text = (
        "{ .reg .pred p, q; setp.ne.b32 p, $2, 0; setp.ge.and.s32 q, $1, 0, p; @q red.global.%s [$0], $1; "
        "setp.lt.and.s32 q, $1, 0, p; @q red.global.%s [$0], $1; }" % (positive, negative)
    )
    counts = both(valid, is_not(isnan(x)))
    values = [address.ir_value(), bits(x).ir_value(), Int32(counts).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,r,~{memory}", has_side_effects=True)


def within(x, left, square=False):
    """The first `left` of a list, squared if so asked, and +0 for the others."""
    return [where(left > j, mul(x[j], x[j]) if square else x[j], 0.0) for j in range(len(x))]


def halved(x):
    """The sum of a list by halves: of 32, element i and i + 16, then i and i + 8, and so on."""
    while len(x) > 1:
        half = len(x) // 2
        x = [add(x[i], x[i + half]) for i in range(half)]
    return x[0]


def sum_of_lanes(part, lanes=32):
    """The sum over a warp's lanes, or over each group of adjacent ones, by halves."""
    step = lanes // 2
    while step > 0:
        part = add(part, from_bits(prims.shfl_sync(cute.arch.FULL_MASK, bits(part), step, 31, prims.Shfl.BFLY)))
        step //= 2
    return part


def arrive_last(address, wanted, lane, valid):
    """Count this warp's arrival, after all it has stored; whether it is the last of `wanted`, which then sees all."""
    # What the lanes stored is ordered before lane 0's release by the barrier, and what the other warps released before
    # the lanes' loads by lane 0's acquire and the second barrier: a fence of its own in a lane orders only that lane.
    prims.bar_warp_sync(cute.arch.FULL_MASK)
    text = "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.b32 $0, 0; @p atom.acq_rel.gpu.global.add.u32 $0, [$1], 1; }"
    values = [address.ir_value(), Int32(both(valid, lane == 0)).ir_value()]
    before = Int32(llvm.inline_asm(Int32.mlir_type, values, text, "=&r,l,r,~{memory}", has_side_effects=True))
    before = Int32(prims.shfl_sync(cute.arch.FULL_MASK, before, 0, 31, prims.Shfl.IDX))
    prims.bar_warp_sync(cute.arch.FULL_MASK)
    return both(valid, before == wanted - 1)


@cute.jit
def sum_in_order(address, pitch, count, valid):
    """The sum of `count` floats, `pitch` bytes apart, the first first."""
    total = from_bits(load_b32(address, valid))
    for i in cutlass.range(1, count, unroll=1):
        total = add(total, from_bits(load_b32(address + Int64(pitch) * i, valid)))
    return total


@cute.jit
def fold_in_order(join: cutlass.Constexpr, address, pitch, count, valid):
    """`count` floats, `pitch` bytes apart, joined to one, the first first."""
    total = from_bits(load_b32(address, valid))
    for i in cutlass.range(1, count, unroll=1):
        total = join(total, from_bits(load_b32(address + Int64(pitch) * i, valid)))
    return total


@cute.jit
def sum_of_blocks(address, rows, columns, lane):
    """The sum of rows x columns floats: each row in order, rows in groups of 32 by halves, the groups in order."""
    total = Float32(0.0)
    for first in cutlass.range(0, rows, 32, unroll=1):
        row = first + lane
        part = sum_in_order(address + Int64(row) * columns * 4, 4, columns, row < rows)
        part = sum_of_lanes(part)
        total = part if first == 0 else add(total, part)
    return total
