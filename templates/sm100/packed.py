class Two:
    """Two values; of floats a register pair, which add, sub, mul and fma take at once, rounded as one by one."""

    def __init__(self, low=None, high=None, pair=None):
        self._halves = (low, high)
        self._pair = pair

    @property
    def pair(self):
        """Two floats as a 64-bit register."""
        if self._pair is None:
            values = [Float32(x).ir_value() for x in self._halves]
            self._pair = llvm.inline_asm(Int64.mlir_type, values, "mov.b64 $0, {$1, $2};", "=l,f,f")
        return self._pair

    @property
    def halves(self):
        """Both values."""
        if self._halves[0] is None:
            kind = llvm.StructType.get_literal([Float32.mlir_type] * 2)
            parts = llvm.inline_asm(kind, [self._pair], "mov.b64 {$0, $1}, $2;", "=f,=f,l")
            self._halves = tuple(Float32(llvm.extractvalue(Float32.mlir_type, parts, [i])) for i in range(2))
        return self._halves

    def __add__(self, other):
        return Two(*[a + b for a, b in zip(self.halves, halves_of(other))])

    def __sub__(self, other):
        return Two(*[a - b for a, b in zip(self.halves, halves_of(other))])

    def __lshift__(self, other):
        return Two(*[a << b for a, b in zip(self.halves, halves_of(other))])

    def __rshift__(self, other):
        return Two(*[a >> b for a, b in zip(self.halves, halves_of(other))])


def halves_of(x):
    """Both values, of one value twice the same."""
    return x.halves if isinstance(x, Two) else (x, x)


def each(function):
    """Let a function of single values take Two."""

    def applied(*operands):
        if not any(isinstance(x, Two) for x in operands):
            return function(*operands)
        return Two(*[function(*halves) for halves in zip(*[halves_of(x) for x in operands])])

    return applied


def two(x, j):
    """Elements j and j + 1 of a list."""
    return Two(x[j], x[j + 1])


def singles(pairs):
    """A list of Two as a list of single values."""
    return [x for pair in pairs for x in halves_of(pair)]


def f32_asm(text, *operands):
    """PTX on f32 registers, as written: the compiler neither contracts nor reassociates it."""
    if any(isinstance(x, Two) for x in operands):
        name, registers = text.split(" ", 1)
        if name in ("add.rn.f32", "sub.rn.f32", "mul.rn.f32", "fma.rn.f32"):
            pairs = [(x if isinstance(x, Two) else Two(x, x)).pair for x in operands]
            constraints = ",".join(["=l", *["l"] * len(pairs)])
            return Two(pair=llvm.inline_asm(Int64.mlir_type, pairs, f"{name}x2 {registers}", constraints))
        return Two(*[f32_asm(text, *halves) for halves in zip(*[halves_of(x) for x in operands])])
    values = [Float32(x).ir_value() for x in operands]
    return Float32(llvm.inline_asm(Float32.mlir_type, values, text, ",".join(["=f", *["f"] * len(values)])))


def stage_row_of_warp(slab, lane, words):
    """Write this lane's row to a slab of 32 rows, its 16-byte chunks swizzled as TMA expects.

    The slab's address is one for the warp: added last, it stays in a register of the warp and costs no instruction.
    """
    chunks = len(words) // 4
    turn = (lane >> {8: 0, 4: 1, 2: 2, 1: 3}[chunks]) & (chunks - 1)
    for i in range(chunks):
        place = lane * (16 * chunks) + ((turn ^ i) << 4)
        shared_store_4_words(place + slab, words[4 * i : 4 * i + 4])
