"""ld, st, address spaces, vectors, and the checks of the shadow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Fault, Gpu, PtxError

STORE = "mad.wide.u32 %rd31, %T, 4, %out; st.global.b32 [%rd31], %r0;"


def words(data: bytes) -> list[int]:
    return np.frombuffer(data, np.uint32).tolist()


@pytest.mark.parametrize("lockstep", ["grid", "cta", "warp"])
def test_shared_memory_exchanges_lanes(lockstep: str, kernel: Any) -> None:
    body = (
        "mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, 4, %r1; st.shared.b32 [%r2], %T; bar.sync 0; xor.b32 %r3, %T, 63; "
        "mad.lo.u32 %r4, %r3, 4, %r1; ld.shared.b32 %r0, [%r4];" + STORE
    )
    got = kernel(body, out=256, block=64, head=".shared .align 4 .b8 buffer[256];", lockstep=lockstep)
    assert words(got) == [i ^ 63 for i in range(64)]


@pytest.mark.parametrize("vector", ["v2.b32", "v4.b32", "v2.b64", "v4.b16", "v4.b8", "v2.b16", "v8.b32", "v4.b64"])
def test_vectors(vector: str, kernel: Any) -> None:
    """Each thread copies a vector; the elements arrive in reverse order."""
    count, bits = int(vector[1]), int(vector[4:])
    data = np.random.default_rng(1).integers(0, 256, 32 * count * bits // 8, dtype=np.uint8)
    stem = {8: "h", 16: "h", 32: "r", 64: "rd"}[bits]
    names = [f"%{stem}{i + 1}" for i in range(count)]
    size = count * bits // 8
    body = (
        f"mad.wide.u32 %rd30, %T, {size}, %in0; mad.wide.u32 %rd31, %T, {size}, %out; "
        f"ld.global.{vector} {{{', '.join(names)}}}, [%rd30]; "
        f"st.global.{vector} [%rd31], {{{', '.join(reversed(names))}}};"
    )
    got = np.frombuffer(kernel(body, out=32 * size, inputs=(data.tobytes(),)), np.uint8)
    np.testing.assert_array_equal(got.reshape(32, count, bits // 8), data.reshape(32, count, bits // 8)[:, ::-1])


def test_128_bit_access(kernel: Any) -> None:
    data = bytes(range(256)) * 2
    body = (
        ".reg .b128 %q; mad.wide.u32 %rd30, %T, 16, %in0; mad.wide.u32 %rd31, %T, 16, %out; "
        "ld.global.b128 %q, [%rd30]; "
        "mov.b128 {%rd0, %rd1}, %q; mov.b128 %q, {%rd1, %rd0}; st.global.b128 [%rd31], %q;"
    )
    got = np.frombuffer(kernel(body, out=512, inputs=(data,)), np.uint64).reshape(-1, 2)
    np.testing.assert_array_equal(got, np.frombuffer(data, np.uint64).reshape(-1, 2)[:, ::-1])


def test_narrow_loads_extend(kernel: Any) -> None:
    body = (
        "ld.global.s8 %r1, [%in0]; ld.global.u8 %r2, [%in0]; ld.global.s16 %r3, [%in0]; add.u32 %r0, %r1, %r2; "
        "add.u32 %r0, %r0, %r3; st.global.b32 [%out], %r0;"
    )
    assert words(kernel(body, inputs=(b"\x80\xff",), block=1)) == [
        (-128 + 128 + int.from_bytes(b"\x80\xff", "little", signed=True)) & 0xFFFF_FFFF
    ]


def test_generic_addresses(kernel: Any) -> None:
    """One generic load instruction reads shared memory in even lanes and global memory in odd ones."""
    body = (
        "mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, 4, %r1; st.shared.b32 [%r2], %T; bar.warp.sync -1; "
        "cvt.u64.u32 %rd0, %r2; cvta.shared.u64 %rd1, %rd0; "
        "mad.wide.u32 %rd2, %T, 4, %in0; and.b32 %r3, %T, 1; setp.eq.u32 %p0, %r3, 0; "
        "selp.b64 %rd3, %rd1, %rd2, %p0; ld.b32 %r0, [%rd3];" + STORE
    )
    data = np.arange(1000, 1032, dtype=np.uint32)
    got = kernel(body, out=128, head=".shared .align 4 .b8 buffer[128];", inputs=(data.tobytes(),))
    assert words(got) == [i if i % 2 == 0 else 1000 + i for i in range(32)]


def test_global_and_const_variables(kernel: Any) -> None:
    head = (
        ".global .align 4 .u32 table[4] = {10, 20, 30, 40}; .const .align 4 .f32 half = 0f3F000000; "
        ".global .align 8 .u64 pointer = table; .global .align 1 .b8 text[] = {104, 105, 0};"
    )
    body = (
        "ld.global.u64 %rd0, [pointer]; ld.global.u32 %r1, [%rd0+8]; mov.u64 %rd1, table; "
        "ld.global.u32 %r2, [%rd1+4]; ld.const.b32 %r3, [half]; "
        "ld.global.u8 %r4, [text+1]; add.u32 %r0, %r1, %r2; add.u32 %r0, %r0, %r4; st.global.b32 [%out], %r0; "
        "st.global.b32 [%out+4], %r3;"
    )
    assert words(kernel(body, out=8, head=head, block=1)) == [30 + 20 + 105, 0x3F000000]


def test_local_memory_is_each_threads_own(kernel: Any) -> None:
    body = (
        ".local .align 16 .b8 depot[32]; mov.u64 %rd0, depot; cvta.local.u64 %rd1, %rd0; st.local.b32 [%rd0+4], %T; "
        "mul.lo.u32 %r1, %T, 3; st.b32 [%rd1+8], %r1; ld.b32 %r2, [%rd1+4]; "
        "ld.local.b32 %r3, [%rd0+8]; add.u32 %r0, %r2, %r3;" + STORE
    )
    assert words(kernel(body, out=256, block=64)) == [4 * i for i in range(64)]


def test_cluster_shared_memory(kernel: Any) -> None:
    """Each CTA of a cluster of four reads the variable of its right neighbor through mapa and shared::cluster."""
    body = (
        "mov.u32 %r1, %cluster_ctarank; mov.b32 %r2, buffer; add.u32 %r3, %r1, 100; st.shared.b32 [%r2], %r3; "
        "barrier.cluster.arrive.release; barrier.cluster.wait.acquire; add.u32 %r4, %r1, 1; and.b32 %r4, %r4, 3; "
        "mapa.shared::cluster.u32 %r5, %r2, %r4; ld.shared::cluster.b32 %r0, [%r5]; mul.wide.u32 %rd0, %C, 4; "
        "add.u64 %rd0, %rd0, %out; "
        "st.global.b32 [%rd0], %r0; barrier.cluster.arrive; barrier.cluster.wait;"
    )
    got = kernel(body, out=32, grid=(8,), cluster=(4,), block=64, head=".shared .align 4 .b8 buffer[4];")
    assert words(got) == [101, 102, 103, 100] * 2


def test_bulk_zeroes(kernel: Any) -> None:
    body = (
        "mov.b32 %r1, buffer; setp.ne.u32 %p0, %T, 0; @%p0 bra SKIP; mov.b64 %rd0, 128; "
        "st.bulk.weak.shared::cta [%r1], %rd0, 0;\nSKIP: bar.warp.sync -1; mad.lo.u32 %r2, %T, 4, %r1; "
        "ld.shared.b32 %r0, [%r2]; add.u32 %r0, %r0, %T;" + STORE
    )
    assert words(kernel(body, out=128, head=".shared .align 8 .b8 buffer[128];")) == list(range(32))


def test_each_resident_cta_has_an_sm(kernel: Any) -> None:
    body = (
        "mov.u32 %r0, %smid; mov.u32 %r1, %nsmid; mad.lo.u32 %r0, %r1, 1000, %r0; mul.wide.u32 %rd0, %C, 4; "
        "add.u64 %rd0, %rd0, %out; st.global.b32 [%rd0], %r0;"
    )
    assert words(kernel(body, out=400, grid=(100,))) == [148000 + c for c in range(100)]


def test_special_registers(kernel: Any) -> None:
    body = (
        "mov.u32 %r1, %ctaid.y; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ctaid.x; mad.lo.u32 %r4, %r1, %r2, %r3; "
        "mov.u32 %r5, %ntid.x; "
        "mad.lo.u32 %r6, %r4, %r5, %T; mad.wide.u32 %rd0, %r6, 4, %out; mov.u32 %r7, %warpid; "
        "mov.u32 %r8, %lanemask_lt; popc.b32 %r9, %r8; "
        "mad.lo.u32 %r10, %r7, 32, %r9; add.u32 %r0, %r10, %r4; st.global.b32 [%rd0], %r0;"
    )
    got = kernel(body, out=4 * 6 * 64, grid=(3, 2), block=64)
    assert words(got) == [t + c for c in range(6) for t in range(64)]


# --- what must fault ---


def fault(kernel: Any, body: str, **options: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        kernel(body, **options)
    return caught.value


def test_out_of_bounds_names_line_thread_and_allocation(kernel: Any) -> None:
    found = fault(kernel, "mad.wide.u32 %rd0, %T, 4, %out;\nst.global.b32 [%rd0], %T;", out=128, block=64)
    assert found.line is not None and "st.global.b32" in found.place.text
    assert (found.warp, found.place.lane, found.cta) == (1, 0, (0, 0, 0))
    assert "allocation of 128 bytes" in str(found)


def test_misaligned(kernel: Any) -> None:
    assert "misaligned" in str(fault(kernel, "ld.global.b32 %r0, [%out+2];", out=16))
    assert "misaligned" in str(
        fault(kernel, "mad.wide.u32 %rd0, %T, 8, %out; ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%rd0];", out=512)
    )


def test_faults_behind_a_predicate_of_some_lanes(kernel: Any) -> None:
    some = "setp.lt.u32 %p0, %T, 100; mad.wide.u32 %rd0, %T, 4, %out; "
    found = fault(kernel, some + "@%p0 ld.global.b32 %r0, [%rd0+1];", out=512, block=128)
    assert "misaligned load" in str(found) and "(100 lanes)" in str(found)
    found = fault(kernel, some + "add.u64 %rd0, %rd0, -0x7f0000000000; @!%p0 st.global.b32 [%rd0], %T;", block=128)
    assert "store" in str(found) and "(28 lanes)" in str(found)
    assert (found.warp, found.place.lane) == (3, 4)


def launch(gpu: Gpu, module: Any, arguments: dict[str, Any]) -> None:
    gpu.launch(module, "k", **arguments)


def test_wrong_launches() -> None:
    gpu = Gpu()
    text = ".version 8.8\n.target sm_100a\n.address_size 64\n.visible .entry k(.param .u32 n) { ret; }"
    module = gpu.load(text)
    good: dict[str, Any] = {"grid": (1,), "block": (32,), "params": [b"1234"]}
    for wrong, message in (
        ({"params": [1]}, "parameter n is 1, not bytes"),
        ({"grid": 4}, "grid 4 must be up to three"),
        ({"grid": (1.5, 1, 1)}, "grid .* must be up to three"),
        ({"grid": (1, 70000)}, "65535"),
        ({"block": (1, 1, 65)}, "64 threads along z"),
        ({"shared_bytes": -1}, "shared_bytes is -1"),
        ({"shared_bytes": 1.5}, "shared_bytes is 1.5"),
    ):
        with pytest.raises(Fault, match=message):
            launch(gpu, module, {**good, **wrong})
    launch(gpu, module, good)


def test_allocations_that_cannot_be() -> None:
    gpu = Gpu()
    for size in (-1, 1.5, 1 << 60, 1 << 70):
        with pytest.raises(Fault, match="whole number|no memory"):
            gpu.alloc(size)  # pyright: ignore[reportArgumentType]
    address = gpu.alloc(4)
    gpu.write(address, b"1234")
    assert gpu.read(address, 4) == b"1234"


def test_never_written(kernel: Any) -> None:
    assert "never written" in str(fault(kernel, "ld.global.b32 %r0, [%out];", fill=False))
    found = fault(kernel, "mov.b32 %r1, buffer; ld.shared.b32 %r0, [%r1+4];", head=".shared .align 4 .b8 buffer[16];")
    assert "never written" in str(found) and "buffer+4" in str(found)


def test_shared_out_of_bounds(kernel: Any) -> None:
    assert "out of bounds" in str(fault(kernel, "mov.b32 %r1, 0xF00000; st.shared.b32 [%r1], %T;", shared=64))
    assert "not allocated" in str(fault(kernel, "mov.b32 %r1, 8; st.shared.b32 [%r1], %T;", shared=64))


def test_peers_shared_memory_needs_shared_cluster(kernel: Any) -> None:
    body = "mov.b32 %r1, buffer; mapa.shared::cluster.u32 %r2, %r1, 1; st.shared.b32 [%r2], %T;"
    found = fault(kernel, body, grid=(2,), cluster=(2,), head=".shared .align 4 .b8 buffer[4];")
    assert "out of bounds" in str(found)


def test_store_over_a_live_mbarrier(kernel: Any) -> None:
    body = "mov.b32 %r1, bar; mbarrier.init.shared.b64 [%r1], 1; st.shared.b32 [%r1], %T;"
    assert "live mbarrier" in str(fault(kernel, body, head=".shared .align 8 .b8 bar[8];", block=1))


def test_parameters_are_read_only(kernel: Any) -> None:
    body = "mov.u64 %rd0, out; cvta.param.u64 %rd1, %rd0; st.b64 [%rd1], %rd0;"
    with pytest.raises(Fault, match="read-only"):
        kernel(body)


@pytest.mark.parametrize(
    "store",
    [
        "red.global.add.u32 [%rd1], 1;",
        "atom.global.exch.b32 %r0, [%rd1], 1;",
        "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 16; cp.async.bulk.commit_group; "
        "cp.async.bulk.wait_group 0;",
    ],
)
def test_parameters_are_read_only_for_every_unit(store: str, kernel: Any) -> None:
    body = (
        "mov.u64 %rd0, out; cvta.param.u64 %rd1, %rd0; mov.b32 %r1, buffer; st.shared.v2.b64 [%r1], {%rd0, %rd0}; "
        f"fence.proxy.async; {store}"
    )
    with pytest.raises(Fault, match="read-only"):
        kernel(body, head=".shared .align 16 .b8 buffer[16];", block=1, inputs=(bytes(4),))


def test_host_reads_and_writes_are_checked() -> None:
    gpu = Gpu()
    address = gpu.alloc(100)
    with pytest.raises(Fault, match="never written"):
        gpu.read(address, 100)
    gpu.write(address, b"x" * 100)
    assert gpu.read(address + 10, 5) == b"xxxxx"
    with pytest.raises(Fault, match="allocation of 100 bytes"):
        gpu.write(address + 90, b"y" * 20)
    gpu.free(address)
    with pytest.raises(Fault, match="not \\(all\\) in an allocation"):
        gpu.read(address, 1)


def test_freed_memory_is_used_again_in_the_end() -> None:
    gpu = Gpu()
    kept = gpu.alloc(1000)
    gpu.write(kept, b"k" * 1000)
    highest = 0
    for _ in range(100):
        address = gpu.alloc(1 << 21)
        gpu.write(address + 5, b"x")
        highest = max(highest, address)
        gpu.free(address)
    assert highest - kept < 80 << 20
    with pytest.raises(Fault, match="never written"):
        gpu.read(gpu.alloc(1 << 21), 8)
    assert gpu.read(kept, 1000) == b"k" * 1000


def test_launch_checks() -> None:
    gpu = Gpu()
    loaded = gpu.load(
        ".version 8.8\n.target sm_100a\n.address_size 64\n.entry k(.param .u32 n) .reqntid 64 { ret; }\n"
        ".entry j() { ret; }"
    )
    assert loaded.entries == ("k", "j")
    four = (0).to_bytes(4, "little")
    gpu.launch(loaded, "k", (1,), (64,), params=[four])
    for options, message in [
        ({"block": (32,), "params": [four]}, "reqntid"),
        ({"block": (64,), "params": []}, "takes 1 parameters"),
        ({"block": (64,), "params": [b"12345678"]}, "has 4 bytes, 8 were given"),
        ({"block": (64,), "params": [four], "cluster": (2,)}, "multiple"),
        ({"block": (64,), "params": [four], "shared_bytes": 300_000}, "exceed"),
        ({"block": (2000,), "params": [four]}, "threads"),
    ]:
        with pytest.raises(Fault, match=message):
            gpu.launch(loaded, "k", (1,), **options)
    with pytest.raises(Fault, match="no entry x"):
        gpu.launch(loaded, "x", (1,), (32,))
    with pytest.raises(PtxError, match="sm_90a"):
        gpu.load(".version 8.8\n.target sm_90a\n.address_size 64\n")
    with pytest.raises(Fault, match="unknown target"):
        Gpu("sm_75")


def test_unpacking_fills_whole_registers(kernel: Any) -> None:
    """Three registers of 32 bits are no way to take 64 apart (PTX ISA 9.7.9.3: two, or four of 16)."""
    text = ".reg .b32 %part<3>; mov.b64 {%part0, %part1, %part2}, 1;"
    with pytest.raises(Fault, match="cannot take an element of 16"):
        kernel(text, out=4)
