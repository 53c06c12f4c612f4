"""fp4emu: a functional emulator of NVIDIA PTX (sm_90a, sm_100a), to verify kernels that will run on NVIDIA GPUs."""

from __future__ import annotations

from fp4emu.errors import Deadlock, Fault, PtxError

__all__ = ["Deadlock", "Fault", "PtxError"]
