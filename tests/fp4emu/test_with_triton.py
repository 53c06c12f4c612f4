"""Triton's own programs on the emulator; collected where Triton is installed."""

from __future__ import annotations

import os
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


def by_its_own_program(tmp_path: Path, lines: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program that does not know of the emulator, run under TRITON_DEFAULT_BACKEND."""
    head = (
        "import triton, triton.language as tl\n"
        "from fp4emu.host import Array as tensor\nimport numpy as np\n"
        "@triton.jit\n"
        "def halves(x, y, BLOCK: tl.constexpr):\n"
        "    at = tl.arange(0, BLOCK)\n"
        "    tl.store(y + at // 2, tl.load(x + at))\n"
        "    tl.store(y + at, tl.load(y + BLOCK - 1 - at))\n"
        "x, y = np.arange(256, dtype='f4'), np.zeros(256, 'f4')\n"
    )
    (tmp_path / "program.py").write_text(head + lines)
    environment = {**os.environ, "TRITON_DEFAULT_BACKEND": "fp4emu", **variables}
    return subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )


def test_triton_finds_the_backend(tmp_path: Path) -> None:
    done = by_its_own_program(tmp_path, "print(type(triton.runtime.driver.active).__name__, triton.backends.backends)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EmulatorDriver") and "nvidia" in done.stdout


@pytest.mark.parametrize("order, code", [("strict", 1), ("off", 0)])
def test_options_come_from_the_environment(tmp_path: Path, order: str, code: int) -> None:
    call = "halves[(1,)](tensor(x), tensor(y), BLOCK=256)"
    done = by_its_own_program(tmp_path, call, FP4EMU_ORDER=order, FP4EMU_SEED="3", FP4EMU_TARGET="sm_100a")
    assert done.returncode == code, done.stderr
    assert ("unordered accesses" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    "variable, value, says",
    [("FP4EMU_ORDER", "loose", "it can be default, strict, off"), ("FP4EMU_SEED", "x", "which is not a number")],
)
def test_an_option_that_is_wrong(tmp_path: Path, variable: str, value: str, says: str) -> None:
    done = by_its_own_program(tmp_path, "print(triton.runtime.driver.active)", **{variable: value})
    assert done.returncode == 1 and says in done.stderr.splitlines()[-1]
