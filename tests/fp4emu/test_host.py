"""What the emulator does to the process it runs in: memory, threads, forks, interruptions."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from fp4emu import Gpu, products
from fp4emu.memory import REUSE


def test_small_allocations_that_are_freed_are_used_again() -> None:
    """What lies between allocations counts: 50,000 of 4 bytes need no more than 32 MB."""
    gpu = Gpu()
    for _ in range(50_000):
        gpu.free(gpu.alloc(4))
    assert len(gpu.memory.data) <= 2 * REUSE


@pytest.mark.parametrize("shape", [(1, 1, 1), (128, 256, 32), (300, 5, 70), (16, 8, 300_000), (3, 2000, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_in_pieces(shape: tuple[int, int, int], dtype: Any) -> None:
    m, n, k = shape
    rng = np.random.default_rng(m)
    a, b = (rng.integers(-3, 4, (rows, k)).astype(dtype) for rows in (m, n))
    product = products.multiply(a, b)
    assert product.dtype == dtype
    np.testing.assert_array_equal(product, a @ b.T)


def test_no_piece_is_large_enough_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = np.matmul

    def matmul(a: Any, b: Any, out: Any) -> Any:
        sizes.append(a.shape[0] * a.shape[1] * b.shape[1])
        return original(a, b, out=out)

    monkeypatch.setattr(np, "matmul", matmul)
    products.multiply(np.ones((128, 64), np.float32), np.ones((256, 64), np.float32))
    assert sum(sizes) == 128 * 64 * 256
    assert max(sizes) <= products.SINGLE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are a matter of POSIX")
def test_a_fork_while_another_thread_multiplies() -> None:
    """The child multiplies too; it would hang if it had inherited a lock that nobody gives back."""
    stop = threading.Event()
    a, b = np.ones((128, 64), np.float32), np.ones((256, 64), np.float32)

    def work() -> None:
        while not stop.is_set():
            products.multiply(a, b)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                os._exit(0 if (products.multiply(a, b) == 64).all() else 1)
            deadline = time.monotonic() + 20
            while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
                time.sleep(0.002)
            if not ended[0]:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert ended == (child, 0)
    finally:
        stop.set()
        thread.join()


def test_an_interruption_leaves_the_emulator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a launch: the next launch runs, and the launch's own memory is free again."""
    text = (
        ".version 8.8\n.target sm_100a\n.address_size 64\n.entry k(.param .u64 p) { .reg .b64 %p; .reg .b32 %r<3>; "
        ".local .align 4 .b8 mine[4]; ld.param.u64 %p, [p]; mov.u32 %r0, %tid.x; st.local.u32 [mine], %r0; "
        "red.global.add.u32 [%p], 1; ret; }"
    )
    gpu = Gpu()
    address = gpu.alloc(4)
    gpu.write(address, bytes(4))
    module = gpu.load(text)
    held = dict(gpu.memory._allocations)

    def launch() -> None:
        gpu.launch(module, "k", (2,), (32,), params=[address.to_bytes(8, "little")])

    from fp4emu.group import Group

    original = Group.run

    def interrupted(self: Group, limit: int) -> str:
        original(self, limit)
        raise KeyboardInterrupt

    monkeypatch.setattr(Group, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch()
    monkeypatch.undo()
    assert gpu.memory._allocations == held
    gpu.write(address, bytes(4))
    launch()
    assert gpu.read(address, 4) == (64).to_bytes(4, "little")
