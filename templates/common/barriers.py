@cute.jit
def wait(barrier: cutlass.Pointer, parity):
    """Wait until the barrier's phase of this parity has ended."""
    while not prims.mbarrier_try_wait_parity(barrier, parity):
        pass
