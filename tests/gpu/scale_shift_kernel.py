"""A small kernel for sm_90a that uses all of the launch path: y = x * gain + shift, and how many tiles there are.

Two tensor maps by value, two pointers, two i32 and an f32 as parameters; a cluster of two CTAs, of which the first
loads a 64 x 32 tile of x for both (TMA multicast, 128-byte swizzle) and each stores its 32 rows of y (TMA); a
persistent grid; a counter that the launch must zero first. `python tests/gpu/make_artifact.py` compiles it.
"""
# ruff: noqa: SIM102 (the DSL traces each `if` by itself)

import cutlass
import cutlass.cute as cute
import cutlass.experimental.cuda as cuda
from cutlass._mlir.dialects import llvm
from cutlass.cute.runtime import make_fake_stream, make_ptr
from cutlass.experimental import primitives as prims

ROWS, COLUMNS = 64, 32
THREADS = 128
TILE_BYTES = ROWS * COLUMNS * 4
SMEM = cutlass.AddressSpace.smem


def f32_asm(text, *operands):
    """PTX on f32 registers that no compiler contracts."""
    values = [cutlass.Float32(x).ir_value() for x in operands]
    constraints = ",".join(["=f", *["f"] * len(values)])
    return cutlass.Float32(llvm.inline_asm(cutlass.Float32.mlir_type, values, text, constraints))


@cute.jit
def wait(barrier: cutlass.Pointer, parity):
    while not prims.mbarrier_try_wait_parity(barrier, parity):
        pass


@cute.kernel
def scale_shift(
    x_map: cutlass.GridConstant[cuda.TensorMap],
    y_map: cutlass.GridConstant[cuda.TensorMap],
    shift: cutlass.Pointer,
    count: cutlass.Pointer,
    tiles: cutlass.Int32,
    tiles_across: cutlass.Int32,
    gain: cutlass.Float32,
):
    x_tile = cutlass.Array(cutlass.Float32, ROWS * COLUMNS, space=SMEM, alignment=1024)
    y_tile = cutlass.Array(cutlass.Float32, ROWS // 2 * COLUMNS, space=SMEM, alignment=128)
    full = cutlass.Array(cutlass.Int64, 1, space=SMEM, alignment=8)

    thread, _, _ = cute.arch.thread_idx()
    warp = cute.arch.make_warp_uniform(cute.arch.warp_idx())
    block, _, _ = cute.arch.block_idx()
    blocks, _, _ = cute.arch.grid_dim()
    rank = prims.cluster_ctarank()
    if warp == 0:
        if prims.elect_sync():
            prims.mbarrier_init(full, 1)
        prims.fence_mbarrier_init()
    prims.barrier_cluster_arrive()
    prims.barrier_cluster_wait()

    offset = shift.load()
    row = thread // 4  # of this CTA's 32; a thread has 8 neighboring columns of it
    line = rank * (ROWS // 2) + row
    parity = cutlass.Int32(0)
    for tile in cutlass.range(block // 2, tiles, blocks // 2, unroll=1):
        m0 = tile // tiles_across * ROWS
        n0 = tile % tiles_across * COLUMNS
        if warp == 0:
            if prims.elect_sync():
                prims.mbarrier_arrive_expect_tx(full, TILE_BYTES)
                # The last tile's store must have read y_tile before it is written again.
                prims.cp_async_bulk_wait_group(0, read=True)
        # Both barriers expect the tile, and nobody reads the last one any more.
        prims.barrier_cluster_arrive()
        prims.barrier_cluster_wait()
        if warp == 0:
            if rank == 0:
                if prims.elect_sync():
                    prims.cp_async_bulk_tensor_shared_cluster_global(
                        x_tile, x_map.get_ptr(), [n0, m0], full, [], multicast_mask=cutlass.Int16(3)
                    )
                    prims.red("add", "s32", count, cutlass.Int32(1), mem_order="relaxed", mem_scope="gpu")
        wait(full, parity)
        parity ^= 1
        for i in cutlass.range_constexpr(8):
            column = thread % 4 * 8 + i
            swizzled = line * COLUMNS + (((column // 4) ^ (line % 8)) * 4 + column % 4)
            value = x_tile.subview(swizzled).load()
            scaled = f32_asm("mul.rn.f32 $0, $1, $2;", value, gain)
            y_tile.subview(row * COLUMNS + column).store(f32_asm("add.rn.f32 $0, $1, $2;", scaled, offset))
        prims.fence_proxy("async_shared", space=prims.SharedSpace.shared_cta)
        prims.barrier_cta_sync(0)
        if warp == 0:
            if prims.elect_sync():
                prims.cp_async_bulk_tensor_global_shared_cta(y_map.get_ptr(), y_tile, [n0, m0 + rank * (ROWS // 2)])
                prims.cp_async_bulk_commit_group()
    if warp == 0:
        if prims.elect_sync():
            prims.cp_async_bulk_wait_group(0)
    prims.barrier_cluster_arrive()
    prims.barrier_cluster_wait()


@cute.jit
def launch(pointer: cute.Pointer, stream):
    tensor_map = cuda.create_tensor_map_tiled(cutlass.Int64(0), cutlass.Uint8, [16], [], [16])
    zero = cutlass.Int32(0)
    scale_shift(tensor_map, tensor_map, pointer.raw_ptr(), pointer.raw_ptr(), zero, zero, cutlass.Float32(0)).launch(
        grid=(2, 1, 1), block=(THREADS, 1, 1), cluster=(2, 1, 1), stream=stream
    )


def compile(arch="sm_90a"):
    scale_shift.set_name_prefix("scale_shift", remove_cutlass_symbol=True, keep_mangled_name=False)
    pointer = make_ptr(cutlass.Float32, 0, cute.AddressSpace.gmem, assumed_align=4)
    return cute.compile(launch, pointer, make_fake_stream(), options=f"--gpu-arch {arch} --keep-ptx --keep-cubin")
