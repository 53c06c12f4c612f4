def largest_word_of_lanes(word):
    """The largest of a warp's unsigned words, for all of its lanes."""
    for step in (16, 8, 4, 2, 1):
        word = larger_word(word, prims.shfl_sync(cute.arch.FULL_MASK, word, step, 31, prims.Shfl.BFLY))
    return word


def beyond_row(words, scale, low):
    """1 where e2m1 of a scale is not e5m2 relative to the lowest of its row, else 0.

    So are weights other than zeros of a scale below it, and all of one that may make them 2^128 or is NaN.
    """
    used = (words[0] | words[1] | words[2] | words[3]) & 0x77777777 != 0
    return where_int(either(scale > 252, both(scale < low, used)), 1, 0)


def block_of_e5m2(words, scale, low):
    """32 e2m1 of one scale as e5m2: 0.5 at the lowest scale of the row is the smallest normal number, 2^-14."""
    above = where_int(scale < low, 0, scale - low)
    first, second = above * 0x04040400 + 0x0A080400, above * 0x04040404 + 0x12100E0C
    return [made for word in words for made in bytes_of_e2m1(word, first, second)]


def count_one(address, valid):
    """Add 1 to a word of global memory."""
    text = "{ .reg .pred p; setp.ne.b32 p, $1, 0; @p red.relaxed.gpu.global.add.u32 [$0], 1; }"
    values = [address.ir_value(), Int32(valid).ir_value()]
    llvm.inline_asm(None, values, text, "l,r,~{memory}", has_side_effects=True)
