def shared_load_4_words(address):
    """Four words of shared memory, 16-byte aligned."""
    words = llvm.inline_asm(
        llvm.StructType.get_literal([Int32.mlir_type] * 4),
        [address.ir_value()],
        "ld.shared.v4.b32 {$0, $1, $2, $3}, [$4];",
        "=r,=r,=r,=r,r,~{memory}",
        has_side_effects=True,
    )
    return [Int32(llvm.extractvalue(Int32.mlir_type, words, [i])) for i in range(4)]


def shared_store_2_floats(address, first, second):
    """Two floats to shared memory, 8-byte aligned."""
    values = [address.ir_value(), first.ir_value(), second.ir_value()]
    llvm.inline_asm(None, values, "st.shared.v2.f32 [$0], {$1, $2};", "r,f,f,~{memory}", has_side_effects=True)


def bytes_of(words, count):
    """The low bytes of `count` words as one."""
    found = words[0]
    for i in range(1, count):
        found |= words[i] << 8 * i
    return found


def atom_scales(atom, row, first, count):
    """Scales `first` and later, `count` of them, of a row of an atom of 128 rows x 4 scales, as a word."""
    return shared_load_word(atom + row % 32 * 16 + row // 32 * 4 + first, count)


def clear(registers, count):
    """Set registers to 0."""
    for i in range(count):
        registers[i] = Float32(0.0)


def zero_sums(registers, count):
    """Set sums of wgmma to 0, all of them before what follows: the compiler neither knows their value nor moves them.

    Zeros that it knows are written where they are used first, and so behind the wgmma.fence that is to order them.
    """
    zeros = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [],
        " ".join(f"mov.b32 ${i}, 0;" for i in range(count)),
        ",".join([*["=f"] * count, "~{memory}"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[i] = Float32(llvm.extractvalue(Float32.mlir_type, zeros, [i]))


def mma_64_rows(registers, first, columns, wide, a, b, keep=True, across=(0, 0)):
    """Registers first.. += A B for 64 rows, `columns` and 16 of K, bf16 or f16 by descriptors: columns / 2 sums.

    Without `keep` what was in the registers does not count; the compiler still sees that they stay the same ones.
    `across` is 1 of an operand with K as its outer axis, whose rows lie side by side.
    """
    count = columns // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    text = "wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s {%s}, $%d, $%d, %d, 1, 1, %d, %d;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[first + i] for i in range(count)], a, b)],
        text % (columns, wide, wide, outputs, 2 * count, 2 * count + 1, keep, *across),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "l", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def mma_64_rows_of_fp8(registers, first, columns, elements, a, b, keep=True):
    """Registers first.. += A B for 64 rows, `columns` and 32 of K: `elements` are those of A and of B, as e4m3.e5m2."""
    count = columns // 2
    outputs = ", ".join(f"${i}" for i in range(count))
    text = "wgmma.mma_async.sync.aligned.m64n%dk32.f32.%s {%s}, $%d, $%d, %d, 1, 1;"
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [x.ir_value() for x in (*[registers[first + i] for i in range(count)], a, b)],
        text % (columns, elements, outputs, 2 * count, 2 * count + 1, keep),
        ",".join([*["=f"] * count, *[str(i) for i in range(count)], "l", "l"]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))


def held_sums(registers, first, count):
    """Registers first.. where they stand: nothing that reads them moves up before the wait for their product."""
    sums = llvm.inline_asm(
        llvm.StructType.get_literal([Float32.mlir_type] * count),
        [registers[first + i].ir_value() for i in range(count)],
        "// sums are there",
        ",".join([*["=f"] * count, *[str(i) for i in range(count)]]),
        has_side_effects=True,
    )
    for i in range(count):
        registers[first + i] = Float32(llvm.extractvalue(Float32.mlir_type, sums, [i]))
    return [registers[first + i] for i in range(count)]


def add_64_rows(registers, first, partial, count):
    """Add a thread's `count` partial sums to registers first..: one rounding each."""
    for i in range(count):
        registers[first + i] = add(registers[first + i], partial[i])


def column_factors(factors, lane, columns):
    """Factors of the columns that this thread's wgmma sums are of, out of those of all: two in each eight."""
    found = []
    for i in range(columns // 8):
        pair = llvm.inline_asm(
            llvm.StructType.get_literal([Float32.mlir_type] * 2),
            [(factors + 4 * (8 * i + lane % 4 * 2)).ir_value()],
            "ld.shared.v2.f32 {$0, $1}, [$2];",
            "=f,=f,r,~{memory}",
            has_side_effects=True,
        )
        found += [Float32(llvm.extractvalue(Float32.mlir_type, pair, [j])) for j in range(2)]
    return found


def promote_64_rows(registers, first, partial, count, rows, columns):
    """Add a thread's `count` partial sums of 64 rows, each times its factor, to registers first..: one rounding each.

    `rows` has the factors of this thread's two rows, `columns` those of its columns; None where `rows` has both.
    """
    for i in range(count):
        factor = rows[i // 2 % 2]
        if columns is not None:
            factor = mul(factor, columns[i // 4 * 2 + i % 2])
        registers[first + i] = fma(partial[i], factor, registers[first + i])


def operand_descriptor(buffer):
    """The wgmma descriptor of rows of 128 bytes, 128-byte swizzle, groups of 8 rows 1024 bytes apart."""
    return Int64(1 << 62 | 64 << 32 | 1 << 16) | Int64(shared_address(buffer) >> 4 & 0x3FFF)


def across_descriptor(buffer, leading):
    """The same of an operand with K as its outer axis: 64 rows side by side in 128 bytes, `leading` to the next 64."""
    return operand_descriptor(buffer) + Int64(leading // 16 - 1 << 16)


def has_ended(barrier, parity):
    """1 where the barrier's phase of this parity has ended, else 0: nobody waits."""
    text = "{ .reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [$1], $2; selp.b32 $0, 1, 0, p; }"
    values = [shared_address(barrier).ir_value(), Int32(parity).ir_value()]
    return Int32(llvm.inline_asm(Int32.mlir_type, values, text, "=r,r,r,~{memory}", has_side_effects=True))


@cute.jit
def clear_shared(address, count, thread, threads):
    """Set `count` bytes of shared memory to 0, 16 at a time by all threads."""
    zero = Int32(0)
    for i in cutlass.range(thread, count // 16, threads, unroll=1):
        shared_store_4_words(address + 16 * i, [zero, zero, zero, zero])
