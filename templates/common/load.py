def barrier_at(barriers, index):
    """An mbarrier of a buffer of them."""
    return cutlass.inttoptr(shared_address(barriers) + 8 * index, 3, Int64)


@cute.jit
def start_barriers(barriers, stages: cutlass.Constexpr, warp, lane):
    """Set up this warp's barriers of a ring of slots: one arrival each, and the bytes that TMA counts."""
    if lane == 0:
        for stage in cutlass.range_constexpr(stages):
            prims.mbarrier_init(barrier_at(barriers, 4 * stage + warp), 1)
        prims.fence_mbarrier_init()
    prims.bar_warp_sync(cute.arch.FULL_MASK)


@cute.jit
def load_ahead(tensor_map, slabs, barriers, row_bytes: cutlass.Constexpr, slot, coordinates: cutlass.Constexpr):
    """Have TMA fill a slot with 32 rows x 32 columns; its barrier's phase ends with them. One thread calls it."""
    barrier = barrier_at(barriers, slot)
    prims.mbarrier_arrive_expect_tx(barrier, 32 * row_bytes)
    target = cutlass.inttoptr(shared_address(slabs) + slot * (32 * row_bytes), 3, cutlass.Int8)
    prims.cp_async_bulk_tensor_shared_cta_global(target, tensor_map.get_ptr(), coordinates, barrier)


def read_row(unpack, slabs, slot, lane, row_bytes):
    """This lane's row of a slot as 32 floats; 16-byte chunks lie swizzled as TMA writes them."""
    chunks = row_bytes // 16
    turn = (lane >> {8: 0, 4: 1, 2: 2}[chunks]) & (chunks - 1)
    row = shared_address(slabs) + slot * (32 * row_bytes) + lane * row_bytes
    values = []
    for i in range(chunks):
        for x in shared_load_4_f32(row + ((turn ^ i) << 4)):
            values.extend(unpack(bits(x)))
    return values
