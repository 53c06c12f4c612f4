"""Runs the programs on a Hopper GPU: `python -m tests.silicon.record CUBINS OUT [FAMILY ...]`. Needs cuda-python.

Each family runs in a process of its own, and again behind a program that ends it (a fault ends the context).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .families import FAMILIES
from .program import Map, Program

SECONDS = 3.0
"""How long a launch may take."""
FAILURES = 8
"""After so many a family is given up."""


def main() -> None:
    cubins, out, *more = sys.argv[1:]
    if more and more[-1].isdigit():
        _family(Path(cubins), Path(out), more[0], int(more[1]))
        return
    for family in more or FAMILIES:
        started, at, failures = time.time(), 0, 0
        while True:
            args = [sys.executable, "-m", "tests.silicon.record", cubins, out, family, str(at)]
            done = subprocess.run(args, capture_output=True, text=True, check=False)
            words = done.stdout.split()
            if done.returncode == 0:
                break
            at = int(words[-1]) + 1 if words and words[-1].isdigit() else 1 << 30
            failures += 1
            sys.stdout.write(f"  {family}: program {at - 1} failed: {done.stderr[-300:]}\n")
            if at >= 1 << 30 or failures >= FAILURES:
                break
        sys.stdout.write(f"{family}: {time.time() - started:.1f} s\n")
        sys.stdout.flush()


def _family(cubins: Path, out: Path, family: str, start: int) -> None:
    entries: dict[str, list[str]] = json.loads((cubins / "entries.json").read_text())
    gpu = _Gpu(cubins)
    name = {"tma": "tma", "wgmma": "wgmma"}.get(family, "rest")
    with (out / f"{name}.bin").open("ab") as data, (out / "index.jsonl").open("a") as index:
        for number, program in enumerate(FAMILIES[family]()):
            if number < start:
                continue
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            raw = gpu.run(program, *entries[program.given()])
            if program.fill is not None:
                raw = (np.frombuffer(raw, np.uint8) ^ program.fill.view(np.uint8)).tobytes()
            packed = zlib.compress(raw, 3)
            index.write(json.dumps([family, number, program.name, program.given(), name, data.tell(), len(packed)]))
            index.write("\n")
            data.write(packed)
            data.flush()
            index.flush()


class _Gpu:
    """A device with modules from a folder."""

    def __init__(self, cubins: Path) -> None:
        driver: Any = import_module("cuda.bindings.driver")
        self.cu, self.cubins = driver, cubins
        self.check(driver.cuInit(0))
        device = self.check(driver.cuDeviceGet(0))
        self.check(driver.cuCtxSetCurrent(self.check(driver.cuDevicePrimaryCtxRetain(device))))
        self.stream = self.check(driver.cuStreamCreate(0))
        self.arena = int(self.check(driver.cuMemAlloc(1 << 22)))
        self.modules: dict[str, Any] = {}

    def check(self, result: Any) -> Any:
        if int(result[0]):
            sys.stderr.write(f"CUDA: {result[0]}\n")
            sys.stderr.flush()
            os._exit(1)
        return result[1] if len(result) == 2 else result[1:]

    def run(self, program: Program, module: str, entry: str) -> bytes:
        """The bytes of its output."""
        cu = self.cu
        if module not in self.modules:
            self.modules[module] = self.check(cu.cuModuleLoadData((self.cubins / module).read_bytes()))
        function = self.check(cu.cuModuleGetFunction(self.modules[module], entry.encode()))
        addresses: list[int] = []
        place = self.arena
        fill = np.zeros(program.out, np.uint8) if program.fill is None else program.fill
        for array in (fill, *program.inputs):
            raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
            self.check(cu.cuMemcpyHtoD(place, raw, raw.nbytes))
            addresses.append(place)
            place += -(-raw.nbytes // 4096) * 4096
        values: list[Any] = [np.array([a], np.uint64) for a in addresses]
        if program.map is not None:
            values.append(self.encoded(program.map, addresses[program.map.buffer + 1]))
        pointers = np.array([v.ctypes.data for v in values], np.uint64)
        self.check(cu.cuLaunchKernel(function, program.grid, 1, 1, program.block, 1, 1, 0, self.stream,
                                     pointers.ctypes.data, 0))  # fmt: skip
        end = time.time() + SECONDS
        while int((state := cu.cuStreamQuery(self.stream))[0]):
            if int(state[0]) != int(cu.CUresult.CUDA_ERROR_NOT_READY) or time.time() > end:
                sys.stderr.write(f"{program.name}: {state[0]}\n")
                sys.stderr.flush()
                os._exit(1)
        result = np.empty(program.out, np.uint8)
        self.check(cu.cuMemcpyDtoH(result, addresses[0], program.out))
        return result.tobytes()

    def encoded(self, given: Map, address: int) -> Any:
        """The driver's tensor map, made by ctypes: the driver wants its address to be a multiple of 64, which that of
        cuda-python's object is not."""
        words = np.zeros(24, np.uint64)
        start = -words.ctypes.data // 8 % 8
        rank, strides = len(given.dims), given.strides or (16,)
        lists = [(ctypes.c_uint64 * len(x))(*x) for x in (given.dims, strides)]
        lists += [(ctypes.c_uint32 * len(x))(*x) for x in (given.box, given.steps)]
        place = ctypes.c_void_p(words.ctypes.data + 8 * start)
        numbers = (0, given.swizzle, 0, given.fill)  # no interleaving, no promotion
        encode = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled
        self.check((encode(place, given.type, rank, ctypes.c_uint64(address), *lists, *numbers),))
        return words[start : start + 16]


if __name__ == "__main__":
    main()
