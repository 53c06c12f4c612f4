"""Products on Blackwell's tensor core, tcgen05.mma."""
