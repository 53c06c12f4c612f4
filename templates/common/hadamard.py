def hadamard_of_columns(x, size, signs):
    """Each run of `size` values of a list times diag(signs) H / sqrt(size), H Sylvester's; `signs` may be None."""
    return [mul(value, 1.0 / size**0.5) for value in butterflies_of_columns(x, size, signs)]


def butterflies_of_columns(x, size, signs):
    """The same without the division."""
    if signs is not None:
        x = [mul(x[j], signs[j % size]) for j in range(len(x))]
    distance = 1
    while distance < size:
        pairs = [(x[j & ~distance], x[j | distance]) for j in range(len(x))]
        x = [sub(*pairs[j]) if j & distance else add(*pairs[j]) for j in range(len(x))]
        distance *= 2
    return x


def hadamard_of_rows(x, size, sign, lane):
    """The transform along the lanes of a warp, for each value of a list; `sign` is this lane's, or None."""
    return [mul(value, 1.0 / size**0.5) for value in butterflies_of_rows(x, size, sign, lane)]


def butterflies_of_rows(x, size, sign, lane):
    """The same without the division."""
    if sign is not None:
        x = [mul(value, sign) for value in x]
    distance = 1
    while distance < size:
        upper = (lane & distance) != 0
        x = [add(lane_across(value, distance), where(upper, neg(value), value)) for value in x]
        distance *= 2
    return x


def hadamard_of_runs(address, pitch, index, count):
    """32 values of a transform of 32 * `count` points, of which every run of 32 has been transformed by itself.

    The runs are in shared memory, `pitch` bytes apart from `address` on; `index` is the number of the run in question.
    """
    values = []
    for i in range(8):
        runs = [shared_load_4_f32(address + pitch * run + 16 * i) for run in range(count)]
        distance = 1
        while len(runs) > 1:
            upper = (index & distance) != 0
            pairs = [zip(runs[j], runs[j + 1]) for j in range(0, len(runs), 2)]
            runs = [[add(a, where(upper, neg(b), b)) for a, b in pair] for pair in pairs]
            distance *= 2
        values += [mul(value, 1.0 / (32 * count) ** 0.5) for value in runs[0]]
    return values


def lane_across(x, distance):
    """x of the lane whose number differs in the bit `distance`."""
    return from_bits(prims.shfl_sync(cute.arch.FULL_MASK, bits(x), distance, 31, prims.Shfl.BFLY))


def load_points(address, count):
    """`count` floats of global memory, 16-byte aligned."""
    return [from_bits(word) for i in range(0, count, 4) for word in load_4_words(address + 4 * i, True)]
