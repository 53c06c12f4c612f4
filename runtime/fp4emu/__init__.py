"""fp4emu: a functional emulator of NVIDIA PTX (sm_90a, sm_100a), to verify kernels that will run on NVIDIA GPUs."""

from __future__ import annotations

from fp4emu.errors import Deadlock, Fault, PtxError
from fp4emu.gpu import Gpu
from fp4emu.tensormap import TensorMap

__all__ = ["Deadlock", "Fault", "Gpu", "PtxError", "TensorMap"]
