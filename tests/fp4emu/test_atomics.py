"""atom and red against the obvious loop."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from fp4emu import Fault
from fp4emu.gpu import Gpu
from fp4emu.isa import load_families
from fp4emu.registry import find_rule

TYPES = {"u32": "<I", "s32": "<i", "b32": "<I", "u64": "<Q", "s64": "<q", "b64": "<Q", "f32": "<f", "f64": "<d"}
TYPES |= {"f16": "<H", "bf16": "<H", "b16": "<H", "f16x2": "<I", "bf16x2": "<I"}


def run(
    opcode: str, kind: str, start: bytes, operands: list[bytes], *, extra: str = "", space: str = "global"
) -> bytes:
    """One warp; lane i applies `opcode` with operand i. Returns the cell, then what each lane got (atom)."""
    size = struct.calcsize(TYPES[kind])
    register = f"{'f' if kind in ('f32', 'f64') else 'b'}{size * 8}"
    returns = opcode.startswith("atom")
    target, address = ("%old, ", "%cell") if returns else ("", "%cell")
    shared = space == "shared"
    text = f"""
.version 8.7
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 data, .param .u64 got)
{{
    .reg .b32 %t;
    .reg .b64 %p, %cell, %q, %wide;
    .reg .{register} %x, %old, %v;
    .reg .pred %z;
    .shared .align 8 .b8 box[8];
    ld.param.u64 %p, [data];
    ld.param.u64 %q, [got];
    mov.u32 %t, %tid.x;
    mul.wide.u32 %wide, %t, {size};
    mov.u64 %cell, {"box" if shared else "%p"};
    setp.ne.s32 %z, %t, 0;
    ld.global.{register} %v, [%p];
    {"@!%z st.shared." + register + " [box], %v;" if shared else ""}
    bar.sync 0;
    add.s64 %p, %p, %wide;
    ld.global.{register} %x, [%p+{size}];
    {opcode} {target}[{address}], %x{extra};
    {"add.s64 %q, %q, %wide; st.global." + register + " [%q+" + str(size) + "], %old;" if returns else ""}
    bar.sync 0;
    ld.param.u64 %q, [got];
    @%z bra DONE;
    ld.{space}.{register} %v, [%cell];
    st.global.{register} [%q], %v;
DONE:
    ret;
}}
"""
    gpu = Gpu("sm_90a")
    data, got = gpu.alloc(size * 33), gpu.alloc(size * 33)
    gpu.write(data, start + b"".join(operands))
    gpu.write(got, bytes(size * 33))
    gpu.launch(
        gpu.load(text), "k", (1, 1, 1), (32, 1, 1), params=[data.to_bytes(8, "little"), got.to_bytes(8, "little")]
    )
    return gpu.read(got, size * (33 if returns else 1))


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("op", ["add", "min", "max"])
def test_integers(op: str, kind: str, space: str) -> None:
    bits = int(kind[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] == "s" else (0, 2**bits)
    rng = np.random.default_rng(bits)
    values = [int.from_bytes(rng.bytes(bits // 8), "little") % (high - low) + low for _ in range(33)]
    combine = {"add": lambda a, b: (a + b - low) % (high - low) + low, "min": min, "max": max}[op]
    expected = values[0]
    for value in values[1:]:
        expected = combine(expected, value)
    packed = [struct.pack(TYPES[kind], v) for v in values]
    found = run(f"red.{space}.{op}.{kind}", kind, packed[0], packed[1:], space=space)
    assert struct.unpack(TYPES[kind], found)[0] == expected


def test_atom_returns_what_was_there() -> None:
    ones = [struct.pack("<I", 1)] * 32
    found = np.frombuffer(run("atom.relaxed.gpu.global.add.u32", "u32", struct.pack("<I", 10), ones), np.uint32)
    assert found[0] == 42
    assert sorted(found[1:]) == list(range(10, 42))


def test_float_sums_round_each_time() -> None:
    values = np.array([2.0**24, *[1.0] * 32], np.float32)
    found = run("red.global.add.f32", "f32", values[:1].tobytes(), [v.tobytes() for v in values[1:]])
    assert struct.unpack("<f", found)[0] == 2.0**24


@pytest.mark.parametrize(("op", "expected"), [("inc", 2), ("dec", 4)])
def test_inc_and_dec_wrap(op: str, expected: int) -> None:
    tens = [struct.pack("<I", 10)] * 32
    found = run(f"red.global.{op}.u32", "u32", struct.pack("<I", 3), tens)
    assert struct.unpack("<I", found)[0] == {"inc": (3 + 32) % 11, "dec": (3 - 32) % 11}[op] == expected


def test_compare_and_swap() -> None:
    lanes = [struct.pack("<I", 5 + i) for i in range(32)]
    found = np.frombuffer(run("atom.global.cas.b32", "b32", struct.pack("<I", 7), lanes, extra=", 99"), np.uint32)
    assert found[0] == 99
    assert found[1:].tolist() == [7, 7, 7] + [99] * 29


def test_a_misaligned_cell_is_a_fault() -> None:
    gpu = Gpu("sm_90a")
    text = """
.version 8.7
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 data)
{
    .reg .b64 %p;
    ld.param.u64 %p, [data];
    red.global.add.u32 [%p+2], 1;
    ret;
}
"""
    data = gpu.alloc(8)
    gpu.write(data, bytes(8))
    with pytest.raises(Fault, match="not a multiple of 4"):
        gpu.launch(gpu.load(text), "k", (1, 1, 1), (32, 1, 1), params=[data.to_bytes(8, "little")])


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("kind", ["f16", "f16x2", "bf16", "bf16x2"])
def test_half_sums(kind: str, space: str) -> None:
    """What CUDA's atomicAdd of __half, __half2 and the bf16 types becomes: each half is added by itself."""
    count, brain = 2 if kind.endswith("x2") else 1, kind.startswith("bf16")
    numbers = np.random.default_rng(3).integers(-9, 10, (32, count)).astype(np.float32) / 4
    numbers[5] = 2.0**-24  # subnormal in f16: .noftz keeps it
    codes = (numbers.view(np.uint32) >> 16).astype("<u2") if brain else numbers.astype("<f2").view("<u2")
    zero = bytes(2 * count)
    got = run(f"atom.{space}.add.noftz.{kind}", kind, zero, [c.tobytes() for c in codes], space=space)
    total, seen = np.zeros(count, np.float32), []
    for number in numbers:
        seen.append(total)
        total = total + number
        bits = total.view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
        total = rounded.astype(np.uint32).view(np.float32) if brain else total.astype("<f2").astype(np.float32)
    want = [total, *seen]
    have = np.frombuffer(got, "<u2").reshape(-1, count)[: len(want)]
    values = (have.astype(np.uint32) << 16).view(np.float32) if brain else have.view("<f2").astype(np.float32)
    np.testing.assert_array_equal(values, np.array(want))


@pytest.mark.parametrize(
    "name",
    [
        "atom.acq_rel.gpu.global.add.u32",
        "atom.relaxed.cta.shared.cas.b32",
        "red.release.sys.global.max.s64",
        "atom.acquire.cluster.add.noftz.bf16x2",
        "ld.acquire.gpu.global.v2.f32",
        "st.release.cluster.shared::cluster.b64",
    ],
)
def test_modifiers_come_in_any_order_as_ptxas_takes_them(name: str) -> None:
    """NVIDIA's and Triton's kernels write the scope, the space or the operation first."""
    load_families()
    opcode, *modifiers = name.split(".")
    rule, mods = find_rule(name, "sm_100a")
    for order in itertools.permutations(modifiers):
        assert find_rule(".".join((opcode, *order)), "sm_100a") == (rule, mods)


@pytest.mark.parametrize(
    "name",
    ["atom.add.gpu", "atom.add.add.u32", "atom.gpu.cta.add.u32", "red.u32.add.fast", "atom.v2.add.f32", "ld.u32.u32"],
)
def test_modifiers_that_do_not_go_together_are_refused_in_any_order(name: str) -> None:
    load_families()
    with pytest.raises(LookupError, match="these modifiers are not emulated"):
        find_rule(name, "sm_100a")


def test_a_scope_before_the_semantics() -> None:
    operands = [struct.pack("<I", i) for i in range(32)]
    cells = [
        run(f"{opcode}.u32", "u32", bytes(4), operands) for opcode in ("atom.add.release.gpu", "red.gpu.relaxed.add")
    ]
    assert all(struct.unpack("<I", cell[:4]) == (sum(range(32)),) for cell in cells)
