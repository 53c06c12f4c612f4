"""tensormap.replace: an edited map is the map that the host would have encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fp4emu import Fault
from fp4emu.instruction import Instruction
from fp4emu.machine import Cluster, ThreadContext, WarpContext
from fp4emu.swizzle import Swizzle
from fp4emu.tensormap import DataType, OobFill, TensorMap

World = Callable[..., Cluster]
Make = Callable[..., Instruction]
START = TensorMap(DataType.F16, 0x7F00_0000_1000, (256, 64, 8), (512, 32768), (64, 8, 2), swizzle=Swizzle.B128)

EDITS: list[tuple[str, str, tuple[int, ...], TensorMap]] = [
    ("global_address", "b64", (0x7E12_3456_7800,), replace(START, address=0x7E12_3456_7800)),
    ("global_dim", "b32", (1, 1000), replace(START, dims=(256, 1000, 8))),
    ("global_stride", "b64", (1, 0x8_0000_0010), replace(START, strides=(512, 0x8_0000_0010))),
    ("box_dim", "b32", (0, 32), replace(START, box=(32, 8, 2))),
    ("box_dim", "b32", (2, 5), replace(START, box=(64, 8, 5))),
    ("element_stride", "b32", (1, 3), replace(START, element_strides=(1, 3, 1))),
    ("elemtype", "b32", (10,), replace(START, dtype=DataType.BF16)),
    ("swizzle_mode", "b32", (0,), replace(START, swizzle=Swizzle.NONE)),
    ("swizzle_atomicity", "b32", (1,), replace(START, swizzle=Swizzle.B128_ATOM_32B)),
    ("fill_mode", "b32", (1,), replace(START, oob_fill=OobFill.NAN)),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: f"{e[0]}{e[2]}")
@pytest.mark.parametrize("space", ["global", "shared::cta"])
def test_each_field(
    edit: tuple[str, str, tuple[int, ...], TensorMap], space: str, cluster: World, instruction: Make
) -> None:
    field, width, values, expected = edit
    world = cluster()
    thread = ThreadContext(WarpContext(world.ctas[0], 0), 0)
    memory, shared = world.machine.memory, world.ctas[0].shared
    address = memory.allocate(128)
    memory.write(address, START.encode())
    if space == "shared::cta":
        shared.check_write(2048, 64)  # as kernels do: the rest carries nothing
        shared.data[2048:2112] = np.frombuffer(START.encode()[:64], np.uint8)
    ins = instruction(f"tensormap.replace.tile.{field}.{space}.b1024.{width}")
    ins.rule.handler(thread, ins, 2048 if space == "shared::cta" else address, *values)
    if space == "shared::cta":
        copy = instruction("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned")
        copy.rule.handler(thread.warp, copy, address, 2048, 128)
    assert TensorMap.decode(memory.read(address, 64) + bytes(64)) == expected


def test_rank_is_zero_based(cluster: World, instruction: Make) -> None:
    world = cluster()
    address = world.machine.memory.allocate(128)
    world.machine.memory.write(address, START.encode())
    ins = instruction("tensormap.replace.tile.rank.global.b1024.b32")
    thread = ThreadContext(WarpContext(world.ctas[0], 0), 0)
    ins.rule.handler(thread, ins, address, 1)
    assert TensorMap.decode(world.machine.memory.read(address, 128)).dims == (256, 64)
    with pytest.raises(Fault, match="0 to 4"):
        ins.rule.handler(thread, ins, address, 5)
    with pytest.raises(Fault, match="multiple of 128"):
        ins.rule.handler(thread, ins, address + 64, 1)
