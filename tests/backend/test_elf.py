"""Bytes that are no cubin are refused, not misread."""

from __future__ import annotations

import pytest

from fp4cc.backend import SassUnavailable, disassemble, resource_usage


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02" + bytes(8), b"\x7fELF\x02" + bytes(200), b"MZ" * 100])
def test_not_a_cubin(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"ELF|cubin"):
        resource_usage(data)


def test_sass_without_nvdisasm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4cc.backend.sass.find_nvdisasm", lambda: None)
    with pytest.raises(SassUnavailable, match="pip install nvidia-cuda-nvdisasm"):
        disassemble(b"")
