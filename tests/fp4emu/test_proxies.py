"""The shadow of the async proxy: proxy fences, and sources of bulk stores that are written too early."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fp4emu import Fault

HEAD = ".shared .align 128 .b8 buffer[1024];"
FILL = "mov.b32 %r1, buffer; mad.lo.u32 %r2, %T, 16, %r1; st.shared.v4.b32 [%r2], {%T, %T, %T, %T};\n"
SEND = (
    "bar.sync 0; setp.ne.u32 %p0, %T, 0; @%p0 bra SENT; "
    "cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 512; "
    "cp.async.bulk.commit_group;\nSENT:\n"
)
WAIT = "@%p0 bra WAITED; cp.async.bulk.wait_group.read 0;\nWAITED: bar.sync 0;\n"
MODES = ["immediate", "delayed"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["writer", "sender"])
def test_a_fenced_store(mode: str, where: str, kernel: Any) -> None:
    """The fence may stand behind the writes, or after the barrier in front of the bulk store."""
    fence = "fence.proxy.async.shared::cta;\n"
    body = FILL + (fence + SEND if where == "writer" else SEND.replace("bar.sync 0;", "bar.sync 0; " + fence))
    data = np.frombuffer(kernel(body + WAIT, out=512, head=HEAD, mode=mode), np.uint32)
    np.testing.assert_array_equal(data, np.repeat(np.arange(32), 4))


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_fence(mode: str, kernel: Any) -> None:
    with pytest.raises(Fault, match="no fence\\.proxy\\.async since") as caught:
        kernel(FILL + SEND + WAIT, out=512, head=HEAD, mode=mode)
    assert "cp.async.bulk.global" in caught.value.place.text


@pytest.mark.parametrize("mode", MODES)
def test_the_source_is_written_again_too_early(mode: str, kernel: Any) -> None:
    again = "st.shared.b32 [%r2], 7;"
    fenced = FILL + "fence.proxy.async;\n" + SEND
    with pytest.raises(Fault, match="may still be reading"):
        kernel(fenced + "bar.sync 0;\n" + again, out=512, head=HEAD, mode=mode)
    kernel(fenced + WAIT + again, out=512, head=HEAD, mode=mode)


def test_older_groups_are_released_first(kernel: Any) -> None:
    """wait_group.read 1 covers the first store, and not the second."""
    two = (
        FILL + "fence.proxy.async;\n"
        "bar.sync 0; setp.ne.u32 %p0, %T, 0; @%p0 bra SENT; "
        "cp.async.bulk.global.shared::cta.bulk_group [%out], [%r1], 256; "
        "cp.async.bulk.commit_group; cp.async.bulk.global.shared::cta.bulk_group [%out+256], [%r1+256], 256; "
        "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 1;\nSENT: bar.sync 0; @%p0 bra DONE;\n"
    )
    kernel(two + "st.shared.b32 [%r1+252], 7;\nDONE:", out=512, head=HEAD)
    with pytest.raises(Fault, match="may still be reading"):
        kernel(two + "st.shared.b32 [%r1+256], 7;\nDONE:", out=512, head=HEAD)


@pytest.mark.parametrize("mode", MODES)
def test_the_generic_proxy_reads_its_own_writes(mode: str, kernel: Any) -> None:
    body = FILL + "ld.shared.b32 %r0, [%r2+8]; mad.wide.u32 %rd0, %T, 4, %out; st.global.b32 [%rd0], %r0;"
    data = kernel(body, out=128, head=HEAD, mode=mode)
    np.testing.assert_array_equal(np.frombuffer(data, np.uint32), np.arange(32))
