class MapInList:
    """The tensor map at an address of global memory."""

    def __init__(self, address):
        self.address = address

    def get_ptr(self):
        """A generic pointer to it, as one of a parameter gives."""
        return cutlass.inttoptr(self.address, 0, cutlass.Int8)

    def __extract_mlir_values__(self):
        """What the DSL carries into branches and loops."""
        return [self.address.ir_value()]

    def __new_from_mlir_values__(self, values):
        """The same behind them."""
        return MapInList(Int64(values[0]))


def acquire_map(tensor_map):
    """Let TMA see what the host has written to a tensor map in global memory (PTX ISA 9.7.13.4, fence.proxy)."""
    prims.fence_proxy_acquire(prims.MemScope.SYS, tensor_map.get_ptr(), 128)


def place_in_list(records, places, block, record_bytes):
    """Where the parameters of this CTA's problem lie, its number among the CTAs of the problem, and how many these are.

    `places` has four words for each CTA of the grid: the number of the record, the two others, and a zero.
    """
    words = load_4_words(global_address(places, block, 16), True)
    record, number, count = [cute.arch.make_warp_uniform(word) for word in words[:3]]
    return global_address(records, record, record_bytes), number, count


def pointer_in_list(address):
    """The pointer to global memory at an address; nobody writes it while the kernel runs."""
    text = "ld.global.nc.b64 $0, [$1];"
    found = Int64(llvm.inline_asm(Int64.mlir_type, [address.ir_value()], text, "=l,l"))
    return cutlass.inttoptr(found, 1, cutlass.Int8)


def word_in_list(address):
    """The word at an address, in all lanes of a warp at once; nobody writes it while the kernel runs."""
    text = "ld.global.nc.b32 $0, [$1];"
    word = Int32(llvm.inline_asm(Int32.mlir_type, [address.ir_value()], text, "=r,l"))
    return cute.arch.make_warp_uniform(word)


def long_in_list(address):
    """The 64-bit integer at an address; nobody writes it while the kernel runs."""
    text = "ld.global.nc.b64 $0, [$1];"
    return Int64(llvm.inline_asm(Int64.mlir_type, [address.ir_value()], text, "=l,l"))
