"""Triton's own programs on the emulator; collected where Triton is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

import fp4emu.triton
from fp4emu import Fault
from fp4emu.triton import Array

PAGE = (Path(__file__).parents[2] / "docs" / "foreign.md").read_text(encoding="utf-8")


@triton.jit
def product(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(a.load([m, k]), b.load([k, n]), total)
    c.store([m, n], total)


@triton.jit
def halves(x, y, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at // 2, tl.load(x + at))
    tl.store(y + at, tl.load(y + BLOCK - 1 - at))


def _aligned(values: np.ndarray) -> np.ndarray:
    """A copy at an address that a descriptor may have."""
    raw = np.zeros(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    made = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    return made


def test_a_product_with_descriptors() -> None:
    driver = fp4emu.triton.install("sm_90a")
    rng = np.random.default_rng(1)
    a, b = (_aligned(rng.integers(-4, 5, shape).astype(np.float16)) for shape in ((128, 64), (64, 128)))
    c = _aligned(np.zeros((128, 128), np.float32))
    described = [
        TensorDescriptor(Array(x), list(x.shape), [x.shape[1], 1], box)
        for x, box in ((a, [64, 32]), (b, [32, 64]), (c, [64, 64]))
    ]
    product[(2, 2)](*described, 64, BM=64, BN=64, BK=32)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))
    assert all(text.startswith("[init-fence]") for text in driver.warnings)


def test_a_program_with_a_race() -> None:
    fp4emu.triton.install("sm_90a")
    x, y = (Array(np.zeros(256, np.float32)) for _ in "xy")
    with pytest.raises(Fault, match=r"\[race\] unordered accesses"):
        halves[(1,)](x, y, BLOCK=256)


def test_the_page(tmp_path: Path) -> None:
    """The example of docs/foreign.md, as one program."""
    section = PAGE[PAGE.index("## Triton") :].partition("\n## ")[0]
    kernel, as_it_is = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    (tmp_path / "program.py").write_text(kernel.partition("\nsource = ")[0] + "\n" + as_it_is)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "()"
    assert float(done.stdout.split()[0]) < 1e-7
