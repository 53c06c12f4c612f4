@cute.jit
def wait(barrier: cutlass.Pointer, parity):
    """Wait until the barrier's phase of this parity has ended."""
    while not prims.mbarrier_try_wait_parity(barrier, parity):
        pass


@cute.jit
def wait_in_cluster(barrier: cutlass.Pointer, parity):
    """Wait for a barrier at which other CTAs arrive too; then what they handed over in shared memory is seen."""
    while not prims.mbarrier_try_wait_parity(
        barrier, parity, scope=prims.MBarrierScope.CLUSTER, order=prims.MemOrder.RELAXED
    ):
        pass
    # An acquire of shared memory alone: one of all memory at this scope would empty L1 at every wait.
    prims.fence_sync_restrict(prims.MemOrder.ACQUIRE)
