"""cp.async.bulk without tensor maps, bulk groups, multicast and the barrier rule of cta_group::2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fp4emu import Fault
from fp4emu.effects import bulk_groups
from fp4emu.instruction import Instruction
from fp4emu.isa.bulk_tensor import targets
from fp4emu.machine import Cluster, ThreadContext, WarpContext
from fp4emu.tensormap import DataType, TensorMap

World = Callable[..., Cluster]
Make = Callable[..., Instruction]
BAR = 1024


def start(cluster: Cluster, rank: int = 0) -> ThreadContext:
    for cta in cluster.ctas:
        cta.barrier_init(BAR, 1)
    return ThreadContext(WarpContext(cluster.ctas[rank], 0), 0)


def expect(cluster: Cluster, size: int, *ranks: int) -> None:
    for cta in (cluster.ctas[rank] for rank in ranks) if ranks else cluster.ctas:
        cta.shared.barriers[BAR].expect_tx(size)
        cta.shared.barriers[BAR].arrive()


def upload(cluster: Cluster, content: np.ndarray) -> int:
    address = cluster.machine.memory.allocate(content.nbytes)
    cluster.machine.memory.write(address, content.tobytes())
    return address


def test_load_multicast_send_and_store(cluster: World, instruction: Make) -> None:
    world = cluster(4)
    thread = start(world, 1)
    content = np.arange(64, dtype=np.uint8)
    source = upload(world, content)
    expect(world, 64)
    load = instruction("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster")
    load.rule.handler(thread, load, 1 << 24 | 2048, source, 64, 1 << 24 | BAR, 0b1011)
    for rank, cta in enumerate(world.ctas):
        assert cta.shared.barriers[BAR].passed(0) == (rank != 2)
        if rank != 2:
            assert (cta.shared.data[2048:2112] == content).all()
    expect(world, 32, 3)
    send = instruction("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes")
    send.rule.handler(thread, send, 3 << 24 | 4096, 1 << 24 | 2064, 32, 3 << 24 | BAR)
    assert (world.ctas[3].shared.data[4096:4128] == content[16:48]).all()
    assert world.ctas[3].shared.barriers[BAR].phase == 2
    store = instruction("cp.async.bulk.global.shared::cta.bulk_group")
    target = upload(world, np.zeros(64, np.uint8))
    store.rule.handler(thread, store, target, 1 << 24 | 2048, 64)
    assert world.machine.memory.read(target, 64) == content.tobytes()


@pytest.mark.parametrize(
    ("op", "kind", "dtype"),
    [
        ("add", "u32", np.uint32),
        ("min", "s32", np.int32),
        ("max", "u64", np.uint64),
        ("add", "f32", np.float32),
        ("xor", "b64", np.uint64),
    ],
)
def test_reductions(op: str, kind: str, dtype: type, cluster: World, instruction: Make) -> None:
    world = cluster()
    thread = start(world)
    a, b = np.random.default_rng(0).integers(0, 100, (2, 16)).astype(dtype)
    target = upload(world, a)
    shared = thread.cta.shared
    shared.check_write(2048, b.nbytes)
    shared.data[2048 : 2048 + b.nbytes] = b.view(np.uint8)
    ins = instruction(f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}.{kind}")
    ins.rule.handler(thread, ins, target, 2048, b.nbytes)
    expected = {"add": np.add, "min": np.minimum, "max": np.maximum, "xor": np.bitwise_xor}[op](a, b)
    assert world.machine.memory.read(target, a.nbytes) == expected.tobytes()


def test_groups_wait_for_reads_and_for_writes(cluster: World, instruction: Make) -> None:
    world = cluster()
    world.machine.queue.mode = "delayed"
    thread = start(world)
    shared = thread.cta.shared
    shared.check_write(2048, 64)
    target = upload(world, np.zeros(64, np.uint8))
    store = instruction("cp.async.bulk.global.shared::cta.bulk_group")
    groups = bulk_groups(thread)
    for _ in range(2):
        store.rule.handler(thread, store, target, 2048, 64)
        groups.commit()
    assert groups.reached(2, read=True)
    asked = [(1, True), (0, True), (1, False), (0, False)]
    seen = [[groups.reached(n, read=read) for n, read in asked]]
    assert seen == [[False] * 4]
    while world.machine.queue.skip():
        seen.append([groups.reached(n, read=read) for n, read in asked])
    for read_one, read_all, done_one, done_all in seen:
        assert done_all <= read_all <= read_one
        assert done_all <= done_one <= read_one
    assert seen[-1] == [True] * 4


def test_tensor_multicast_signals_the_pair(cluster: World, instruction: Make) -> None:
    """With cta_group::2 the signal goes to the CTA of the destination's pair that the barrier's parity names."""
    world = cluster(4)
    thread = start(world)
    for barrier_rank, expected in ((0, [0, 2]), (1, [1, 3])):
        ins = instruction(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
            ".multicast::cluster.cta_group::2.L2::cache_hint"
        )
        found = targets(thread, ins, barrier_rank << 24 | BAR, 0b0101, pair=True)
        assert found == [(0, expected[0] << 24 | BAR), (2, expected[1] << 24 | BAR)]
    assert targets(thread, ins, BAR, 0b0110, pair=False) == [(1, 1 << 24 | BAR), (2, 2 << 24 | BAR)]
    with pytest.raises(Fault, match="does not select CTAs"):
        targets(thread, ins, BAR, 1 << 5, pair=False)


def test_tensor_load_to_the_peers_barrier(cluster: World, instruction: Make) -> None:
    world = cluster(2)
    thread = start(world, 1)
    content = np.arange(128, dtype=np.uint8)
    address = upload(world, content)
    tmap = upload(world, np.frombuffer(TensorMap(DataType.U8, address, (64, 2), (64,), (64, 2)).encode(), np.uint8))
    plain = instruction("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes")
    with pytest.raises(Fault, match="not in the CTA of the destination"):
        plain.rule.handler(thread, plain, 1 << 24 | 2048, (tmap, (0, 0)), BAR)
    with pytest.raises(Fault, match="rank 2"):
        plain.rule.handler(thread, plain, 1 << 24 | 2048, (tmap, (0,)), 1 << 24 | BAR)
    expect(world, 128)
    pair = instruction("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.cta_group::2")
    pair.rule.handler(thread, pair, 1 << 24 | 2048, (tmap, (0, 0)), BAR)
    assert [c.shared.barriers[BAR].phase for c in world.ctas] == [1, 0]
    assert (world.ctas[1].shared.data[2048:2176] == content).all()


def test_faults(cluster: World, instruction: Make) -> None:
    world = cluster(2)
    thread = start(world)
    load = instruction("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes")
    source = upload(world, np.zeros(64, np.uint8))
    with pytest.raises(Fault, match="multiple of 16"):
        load.rule.handler(thread, load, 2048, source, 24, BAR)
    with pytest.raises(Fault, match="not a multiple of 16"):
        load.rule.handler(thread, load, 2056, source, 32, BAR)
    with pytest.raises(Fault, match="not in the CTA of the destination"):
        load.rule.handler(thread, load, 1 << 24 | 2048, source, 32, BAR)
    with pytest.raises(Fault, match="no mbarrier"):
        load.rule.handler(thread, load, 2048, source, 32, 4096)
    store = instruction("cp.async.bulk.global.shared::cta.bulk_group")
    with pytest.raises(Fault, match="never written"):
        store.rule.handler(thread, store, source, 2048, 64)
    with pytest.raises(Fault, match="not in the executing CTA"):
        store.rule.handler(thread, store, source, 1 << 24 | 2048, 64)
