"""Reading PTX text: `parse` gives the module tree, `fp4emu.program` what runs."""

from __future__ import annotations

from fp4emu.ptx.parser import parse

__all__ = ["parse"]
