"""SASS on request, where NVIDIA's `nvdisasm` is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path


class SassUnavailable(Exception):
    """There is no `nvdisasm` here; the message says how to get one."""


def find_nvdisasm() -> Path | None:
    """`nvdisasm` of CUDA_HOME or CUDA_PATH, of the pip package nvidia-cuda-nvdisasm, or on PATH."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        home = os.environ.get(variable)
        if home and (path := Path(home) / "bin" / "nvdisasm").is_file():
            return path
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).glob("*/bin/nvdisasm")):
            return path
    found = shutil.which("nvdisasm")
    return Path(found) if found else None


def disassemble(cubin: bytes) -> str:
    """The SASS of a cubin. Raises SassUnavailable, or RuntimeError if nvdisasm fails."""
    tool = find_nvdisasm()
    if tool is None:
        raise SassUnavailable(
            "SASS needs NVIDIA's nvdisasm: `pip install nvidia-cuda-nvdisasm`, or set CUDA_HOME to a CUDA toolkit"
        )
    with tempfile.TemporaryDirectory(prefix="fp4cc-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run(
            [str(tool), "--print-code", str(path)], capture_output=True, text=True, check=False, timeout=120
        )
    if done.returncode != 0:
        raise RuntimeError(f"{tool} failed: {done.stderr.strip()}")
    return done.stdout
