"""Files of arrays from anywhere: damaged or too large ones are refused, unsupported tensors when they are asked for."""

from __future__ import annotations

import io as streams
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4num import FORMATS, quantize
from fp4rt import CheckpointError, io
from fp4rt.io import npy
from fp4rt.io.npy import quantized_from, read_arrays


def npy_bytes(array: Any, **options: Any) -> bytes:
    out = streams.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def npy_with(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def archive(members: dict[str, bytes], **options: Any) -> bytes:
    out = streams.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3),
        np.arange(6, dtype=np.float64).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        np.arange(4, dtype=">i4"),
        np.zeros((0, 5), np.float16),
        np.array([True, False]),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: Any) -> None:
    at = tmp_path / "a.npy"
    np.save(at, array)
    found = read_arrays(at)
    assert isinstance(found, np.ndarray)
    assert found.shape == np.asarray(array).shape
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    found.flags.writeable = True
    for pack in (np.savez, np.savez_compressed):
        pack(tmp_path / "a.npz", one=array, two=np.arange(3))
        several = read_arrays(tmp_path / "a.npz")
        assert isinstance(several, dict)
        assert list(several) == ["one", "two"]
        np.testing.assert_array_equal(several["one"], array)


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 1000000), }"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", "FP6410", "neither a .npy nor a .npz"),
        (b"\x93NUMPY", "FP6410", "header cannot be read"),
        (b"\x93NUMPY\x03\x00\x00\x00\x00\x00", "FP6410", "version 3.0"),
        (npy_with(HUGE), "FP6410", "takes 400000000000 bytes, and 0 follow"),
        (npy_with("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "FP6410", "no array's"),
        (npy_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,), }"), "FP6410", "header cannot be read"),
        (npy_with("(" * 5000), "FP6410", "header cannot be read"),
        (npy_with("{'descr': 'f4', 'fortran_order': __import__('os'), 'shape': ()}"), "FP6410", "header cannot"),
        (npy_with(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 40}, }}", bytes(4)), "FP6410", "no arr"),
        (npy_bytes(np.array([{}], object), allow_pickle=True), "FP6410", "never unpickled"),
        (npy_bytes(np.array(["text"])), "FP6410", "elements of type <U4"),
        (npy_bytes(np.zeros(2, "f4,i4")), "FP6410", "elements of type"),
        (npy_bytes(np.zeros(2, np.complex64)), "FP6410", "elements of type complex64"),
        (npy_bytes(np.zeros(8))[:-1], "FP6410", "takes 64 bytes, and 63 follow"),
        (npy_bytes(np.zeros(8)) + b"x", "FP6410", "takes 64 bytes, and 65 follow"),
        (b"PK\x03\x04", "FP6410", "has no end"),
        (archive({"a.txt": b"x"}), "FP6410", "'a.txt' is no .npy file"),
        (archive({"a.npy": b"x"}), "FP6410", "member a.npy: its header cannot be read"),
        (archive({"a.npy": npy_with(HUGE)}), "FP6410", "takes 400000000000 bytes"),
        (archive({"a.npy": npy_bytes(np.zeros(2))}, compression=zipfile.ZIP_LZMA), "FP6410", "never writes"),
        (archive({f"{i}.npy": b"" for i in range(1001)}), "FP6411", "holds 1001 arrays"),
        (archive({"x" * 60_000 + f"{i}.npy": b"" for i in range(20)}), "FP6411", "directory has 12"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, content: bytes, code: str, message: str) -> None:
    at = tmp_path / "a.npz"
    at.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_arrays(at)
    assert caught.value.code == code
    assert str(at) in str(caught.value)


def test_a_small_archive_that_unpacks_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "FREE_BYTES", 1 << 16)
    at = tmp_path / "a.npz"
    at.write_bytes(archive({"a.npy": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="FP6411.*unpacks to 1048576"):
        read_arrays(at)


def test_one_name_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for value in (1, 2):
            file.writestr("codes.npy", npy_bytes(np.full(4, value)))
    with pytest.raises(CheckpointError, match="FP6410.*two of its arrays have one name"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("read", [read_arrays, io.open_checkpoint])
def test_what_is_no_file(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """A pipe would be waited for, a device never ends; a link is followed, since model hubs store files as links."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "zero", "none"):
        with pytest.raises(CheckpointError, match="FP6401"):
            read(tmp_path / f"{name}.safetensors")
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    np.testing.assert_array_equal(read_arrays(tmp_path / "link.npy"), np.arange(3))  # type: ignore[arg-type]


def test_an_archive_whose_directory_is_too_large_for_its_record(tmp_path: Path) -> None:
    """ZIP64, as archives of over 4 GB have it: the size stands in a record of its own."""
    content = bytearray(archive({"a.npy": npy_bytes(np.arange(3))}))
    end = content.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<HII", content, end + 10)
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<IIQI", 0x07064B50, 0, end, 1)
    struct.pack_into("<HHII", content, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    content[end:end] = record + locator
    at = tmp_path / "a.npz"
    at.write_bytes(content)
    np.testing.assert_array_equal(read_arrays(at)["a"], np.arange(3))  # type: ignore[call-overload]
    struct.pack_into("<Q", content, end + 40, 1 << 40)
    at.write_bytes(content)
    with pytest.raises(CheckpointError, match="FP6411.*directory has 1099511627776 bytes"):
        read_arrays(at)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.uint8(1)}, "its codes are one number"),
        ({"codes": np.zeros((2, 8), np.float32)}, "codes are bytes"),
        ({"codes": np.zeros((2, 9), np.uint8)}, "codes of|no multiple|scales of"),
        ({"extra": np.zeros(1)}, "it has codes, scales, tensor_scale, shape, extra"),
        ({"shape": np.array([2.5, 16])}, "its shape is float64"),
        ({"shape": np.array([[2, 16]])}, "its shape is int64 of shape"),
        ({"shape": np.array([-2, 16])}, "not the shape"),
        ({"shape": np.array([2**62, 16])}, "codes of nvfp4"),
        ({"tensor_scale": np.zeros(2, np.float32)}, "its tensor_scale is float32 of shape"),
        ({"tensor_scale": np.array(1j)}, "its tensor_scale is complex128"),
    ],
)
def test_parts_that_make_no_tensor(change: dict[str, Any], message: str) -> None:
    q = quantize(np.ones((2, 16), np.float32), "nvfp4")
    parts = {"codes": q.codes, "scales": q.scales, "tensor_scale": q.tensor_scale, "shape": np.array([2, 16])}
    assert quantized_from(parts, FORMATS["nvfp4"], "x.npz").shape == (2, 16)
    with pytest.raises(CheckpointError, match=f"FP6410.*x.npz.*({message})"):
        quantized_from({**parts, **change}, FORMATS["nvfp4"], "x.npz")


# safetensors


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_f4_is_read_as_its_bytes_and_what_is_unsupported_only_when_asked_for(tmp_path: Path) -> None:
    at = tmp_path / "a.safetensors"
    header = {
        "w": entry("F4", [2, 4], 0, 4),
        "odd": entry("F4", [4, 3], 4, 10),
        "six": entry("F6_E2M3", [4], 10, 13),
        "fnuz": entry("F8_E4M3FNUZ", [3], 13, 16),
        "complex": entry("C64", [1], 16, 24),
        "new": entry("F1_NEW", [3], 24, 32),
        "plain": entry("F32", [1], 32, 36),
    }
    at.write_bytes(safetensors(header, bytes(range(32)) + np.float32(7).tobytes()))
    checkpoint = io.open_checkpoint(at)
    assert list(checkpoint) == list(header)
    assert checkpoint["plain"].data[0] == 7
    w = checkpoint["w"]
    assert (w.dtype, w.shape, w.data.tolist()) == ("F4", (2, 2), [[0, 1], [2, 3]])
    for name in ("odd", "six", "fnuz", "complex", "new"):
        with pytest.raises(CheckpointError, match=rf"FP6412: {name} is "):
            checkpoint[name]
    io.save_checkpoint(tmp_path / "b.safetensors", {"w": w})
    again = io.open_checkpoint(tmp_path / "b.safetensors")["w"]
    assert (again.dtype, again.data.tolist()) == ("F4", w.data.tolist())


def test_f4_weights_serve_where_packed_bytes_do(tmp_path: Path) -> None:
    """A convention that stores FP4 codes as U8 finds the same bytes in an F4 tensor."""
    q = quantize(np.arange(64, dtype=np.float32).reshape(2, 32), "nvfp4")
    tensors = io.to_modelopt(q, "layer")
    tensors["layer.weight"] = io.Tensor("F4", tensors["layer.weight"].data)
    at = tmp_path / "a.safetensors"
    io.save_checkpoint(at, tensors)
    again = io.from_modelopt(io.open_checkpoint(at), "layer").weight
    np.testing.assert_array_equal(again.codes, q.codes)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (safetensors(b"[" * 100_000), "FP6411"),
        (safetensors(b'{"a": ' * 3000 + b"1" + b"}" * 3000), "FP6411"),
        (safetensors(b'{"t": 1, "t": 2}'), "FP6401"),
        (safetensors({"__metadata__": 3}), "FP6401"),
        (safetensors({"__metadata__": {"a": 3}}), "FP6401"),
        (safetensors({"t": [1, 2, 3]}), "FP6401"),
        (safetensors({"t": entry("F32", [1.0], 0, 4)}, bytes(4)), "FP6401"),  # type: ignore[list-item]
        (safetensors({"t": entry("F32", [True], 0, 4)}, bytes(4)), "FP6401"),
        (safetensors({"t": entry("F32", [2**62, 4], 0, 4)}, bytes(4)), "FP6401"),
        (safetensors({"t": entry("F32", [1] * 40, 0, 4)}, bytes(4)), "FP6401"),
        (safetensors({"t": entry("F32", [1], 0, 4)}, bytes(5)), "FP6401"),
        (safetensors({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 0, 4)}, bytes(4)), "FP6401"),
        (safetensors({"t": entry("F32", [1], 0, 4), "u": entry("F32", [1], 8, 12)}, bytes(12)), "FP6401"),
        (safetensors({"t": entry("F4", [3], 0, 2)}, bytes(2)), "FP6401"),
    ],
)
def test_headers_that_do_not_fit(tmp_path: Path, content: bytes, code: str) -> None:
    at = tmp_path / "a.safetensors"
    at.write_bytes(content)
    with pytest.raises(CheckpointError, match=code):
        io.open_checkpoint(at)


@pytest.mark.parametrize(
    "index",
    ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"t": 3}}', '{"weight_map": {"t": "../a.safetensors"}}',
     '{"weight_map": {"t": "\\u0000.safetensors"}}', '{"weight_map": {"t": "none.safetensors"}}'],
)  # fmt: skip
def test_indexes_that_lead_nowhere(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="FP6401"):
        io.open_checkpoint(tmp_path)


def test_a_header_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = tmp_path / "a.safetensors"
    at.write_bytes(safetensors({"t": entry("F32", [1], 0, 4)}, bytes(4)))
    monkeypatch.setattr("fp4rt.io.safetensors.MAX_JSON", 10)
    with pytest.raises(CheckpointError, match="FP6411.*at most 10"):
        io.open_checkpoint(at)


def test_every_single_bit(tmp_path: Path) -> None:
    """Each bit flipped, of each kind of file: refused with a code, or read as an array."""
    at = tmp_path / "a"
    packed = streams.BytesIO()
    np.savez_compressed(packed, codes=np.arange(4, dtype=np.uint8))
    rng = random.Random(0)
    for good in (npy_bytes(np.arange(2, dtype=np.uint8)), packed.getvalue()):
        for bit in rng.sample(range(len(good) * 8), 400):
            data = bytearray(good)
            data[bit // 8] ^= 1 << bit % 8
            at.write_bytes(data)
            try:
                read_arrays(at)
            except CheckpointError as error:
                assert error.code in ("FP6410", "FP6411")
