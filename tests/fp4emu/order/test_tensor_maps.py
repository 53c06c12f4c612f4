"""The tensor-map proxy: a map that a kernel writes in global memory needs a release and an acquire fence of its proxy
before a copy reads it (PTX ISA 9.7.13.4, fence.proxy.tensormap)."""

from __future__ import annotations

import numpy as np
import pytest

from fp4emu import Fault, Gpu
from fp4emu.order.checks import Level, Order
from fp4emu.tensormap import DataType, Swizzle, TensorMap

MODULE = """
.version 8.8
.target sm_90a
.address_size 64
.shared .align 128 .b8 tile[1024]; .shared .align 128 .b8 edited[128]; .shared .align 8 .b64 ready;
.visible .entry kernel(.param .u64 map, .param .u64 data) {{
.reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<8>;
ld.param.u64 %d1, [map]; ld.param.u64 %d2, [data]; mov.u32 %r1, %tid.x;
mov.b32 %r2, tile; mov.b32 %r3, ready; mov.b32 %r4, edited;
setp.ne.u32 %p1, %r1, 0; @%p1 bra NOINIT; mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster;
NOINIT: bar.sync 0;
setp.ge.u32 %p2, %r1, 32; @%p2 bra WRITTEN; {write}
WRITTEN: {between}
setp.ne.u32 %p3, %r1, 32; @%p3 bra END;
{acquire}
mbarrier.arrive.expect_tx.shared.b64 _, [%r3], 1024;
cp.async.bulk.tensor.2d.shared::cta.global.tile.mbarrier::complete_tx::bytes [%r2], [%d1, {{0, 0}}], [%r3];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3], 0; @!%p1 bra W;
END: ret;
}}
"""
BY_COPY = (
    "mad.lo.u32 %r5, %r1, 4, %r4; mad.wide.u32 %d3, %r1, 4, %d1; ld.global.b32 %r6, [%d3]; st.shared.b32 [%r5], %r6; "
    "bar.warp.sync -1; @%p1 bra EDITED; tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r4], %d2;\n"
    "EDITED: bar.warp.sync -1; tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned "
    "[%d1], [%r4], 128;"
)
IN_PLACE = "@%p1 bra EDITED; tensormap.replace.tile.global_address.global.b1024.b64 [%d1], %d2; {}\nEDITED:"
RELEASE = "fence.proxy.tensormap::generic.release.gpu;"
ACQUIRE = "fence.proxy.tensormap::generic.acquire.gpu [%d1], 128;"
MEET = "bar.sync 0;"


def _run(write: str, between: str, acquire: str, order: Order = "strict", level: Level | None = None) -> Gpu:
    gpu = Gpu("sm_90a")
    data = gpu.alloc(1024)
    gpu.write(data, np.arange(256, dtype=np.float32))
    elsewhere = gpu.alloc(1024)
    gpu.write(elsewhere, np.zeros(256, np.float32))
    tensor = TensorMap(DataType.F32, elsewhere, (32, 8), (128,), (32, 8), swizzle=Swizzle.NONE)
    place = gpu.alloc(128)
    gpu.write(place, tensor.encode())
    text = MODULE.format(write=write, between=between, acquire=acquire)
    params = [place.to_bytes(8, "little"), data.to_bytes(8, "little")]
    checks: dict[str, Level] = {} if level is None else {"tensormap": level}
    gpu.launch(gpu.load(text), "kernel", (1,), (64,), params=params, order=order, checks=checks)
    return gpu


@pytest.mark.parametrize("write", [BY_COPY, IN_PLACE.format(RELEASE)], ids=["cp_fenceproxy", "replace"])
def test_both_fences(write: str) -> None:
    _run(write, MEET, ACQUIRE)
    _run(write, MEET, ACQUIRE, "default")
    _run(write, MEET + "@%p2 bra A; bra B;\nA:" + ACQUIRE + "\nB:" + MEET, "")  # the acquire fence by another thread


@pytest.mark.parametrize(
    ("write", "between", "acquire"),
    [
        pytest.param(BY_COPY, MEET, "", id="no acquire"),
        pytest.param(IN_PLACE.format(""), MEET, ACQUIRE, id="no release"),
        pytest.param(
            IN_PLACE.format("fence.proxy.async;"), MEET, "fence.proxy.async;", id="the fence of another proxy"
        ),
        pytest.param(
            IN_PLACE.format(RELEASE), MEET, ACQUIRE.replace("[%d1]", "[%d2]"), id="acquire of another address"
        ),
        pytest.param(IN_PLACE.format(RELEASE), ACQUIRE, "", id="nothing between the threads"),
        pytest.param(
            IN_PLACE.format(RELEASE), f"@!%p2 bra A; {ACQUIRE}\nA: {MEET}", "", id="acquire before the barrier"
        ),
    ],
)
def test_a_fence_that_is_missing(write: str, between: str, acquire: str) -> None:
    with pytest.raises(Fault, match=r"(?s)\[tensormap\].*fence.proxy.tensormap::generic.acquire"):
        _run(write, between, acquire)
    assert "[tensormap]" in _run(write, between, acquire, "default", "warn").warnings[0]
    assert not _run(write, between, acquire, "strict", "off").warnings


def test_a_map_that_the_host_wrote() -> None:
    """It needs no release fence, and the acquire fence of any thread that synchronizes with the one that copies."""
    _run("", MEET, ACQUIRE)
    _run("", MEET + "@%p2 bra A; bra B;\nA:" + ACQUIRE + "\nB:" + MEET, "")
    _run("", MEET, "", "default")
    for acquire in ("", ACQUIRE.replace("[%d1]", "[%d2]")):
        with pytest.raises(Fault, match=r"(?s)\[host-map\].*which the host wrote.*acquire.sys"):
            _run("", MEET, acquire)


def test_a_fence_of_another_size() -> None:
    with pytest.raises(Fault, match="it takes 128"):
        _run(BY_COPY, MEET, ACQUIRE.replace("128", "64"))
