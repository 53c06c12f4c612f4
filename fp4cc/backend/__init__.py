"""From a rendered kernel file to PTX and cubin, by the CuTe DSL in a child process."""

from __future__ import annotations

from fp4cc.backend.elf import ResourceUsage, resource_usage
from fp4cc.backend.process import BackendError, Compiled, Worker, compile_python, kept_worker
from fp4cc.backend.sass import SassUnavailable, disassemble
from fp4cc.backend.toolchain import toolchain

__all__ = [
    "BackendError",
    "Compiled",
    "ResourceUsage",
    "SassUnavailable",
    "Worker",
    "compile_python",
    "disassemble",
    "kept_worker",
    "resource_usage",
    "toolchain",
]
