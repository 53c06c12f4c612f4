"""numpy's `.npy` and `.npz` files: the header is believed only as far as the file bears it out, nothing is unpickled.

Formats: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html; .npz is a ZIP archive of .npy files
(APPNOTE.TXT 4.3).
"""

from __future__ import annotations

import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fp4num import BlockFormat, Quantized
from fp4rt.errors import CheckpointError, RuntimeFault
from fp4rt.io.files import open_regular
from fp4rt.limits import check_memory

Array = NDArray[Any]

#: Arrays of one archive, bytes of its directory, and axes of an array.
MAX_MEMBERS, MAX_DIRECTORY, MAX_AXES = 1000, 1 << 20, 32
#: An archive may unpack to so many bytes, and beyond them to so many times its own size: zeros deflate to a thousandth.
FREE_BYTES, MAX_RATIO = 1 << 28, 100
#: The arrays of a quantized tensor in an archive.
PARTS = ("codes", "scales", "tensor_scale", "shape")
#: What it may say besides: the layout its scales are in, and that NaN among them is meant.
NOTES = ("layout", "nan_blocks")
#: The longest text that is read, in bytes of numpy's UCS-4: a layout's name.
_MAX_TEXT = 1024

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError, OSError,
               ValueError, KeyError, struct.error, OverflowError)  # fmt: skip


def read_arrays(path: str | os.PathLike[str]) -> Array | dict[str, Array]:
    """The array of a .npy file, or the arrays of a .npz file by name; which it is, its first bytes say.

    Elements are booleans, integers or floats in this machine's byte order, or there is one short text. Raises
    CheckpointError: FP6401 (missing, no regular file), FP6410 (not in the format, incomplete, object
    arrays), FP6411 (over a limit), and DeviceError FP6120 for more than this machine's memory.
    """
    at = Path(path)
    file, size = open_regular(at)
    with file:
        start = file.read(len(npy.MAGIC_PREFIX))
        file.seek(0)
        if start == npy.MAGIC_PREFIX:
            return _read_array(file, size, str(at))
        if start.startswith(b"PK"):
            return _read_archive(file, size, at)
    raise _bad(str(at), "neither a .npy nor a .npz file", "write it with np.save or np.savez")


def quantized_from(parts: Mapping[str, Array], fmt: BlockFormat, what: str, offsets: Any = None) -> Quantized:
    """The quantized tensor whose `PARTS` an archive holds; without `shape`, that of the codes.

    `offsets` are those of a ragged tensor's rows, group by group.

    Raises CheckpointError FP6410 for parts that are missing, unknown, or do not fit one another.
    """
    missing = [key for key in ("codes", "scales") if key not in parts and (key == "codes" or fmt.scale is not None)]
    unknown = sorted(set(parts) - {*PARTS, *NOTES})
    if missing or unknown:
        found = ", ".join(parts) or "nothing"
        raise _bad(
            what,
            f"it has {found}; a quantized tensor has {', '.join(PARTS)} (shape is optional, "
            f"and so are {' and '.join(NOTES)})",
        )
    codes, overall = parts["codes"], parts.get("tensor_scale")
    if codes.ndim == 0:
        raise _bad(what, "its codes are one number, which is no tensor")
    shape = (*codes.shape[:-1], codes.shape[-1] * 8 // fmt.bits)
    if "shape" in parts:
        given = parts["shape"]
        if given.ndim != 1 or given.dtype.kind not in "iu" or given.size > MAX_AXES:
            raise _bad(what, f"its shape is {given.dtype} of shape {given.shape}; expected one integer for each axis")
        shape = tuple(int(n) for n in given)
    batches = fmt.tensor_scale_shape(shape)
    if overall is not None and overall.dtype.kind == "f" and batches:
        overall = overall.astype(np.float32)
    elif overall is not None and (overall.size != 1 or overall.dtype.kind != "f"):
        raise _bad(what, f"its tensor_scale is {overall.dtype} of shape {overall.shape}; it is one float")
    layout, nan_blocks = parts.get("layout"), parts.get("nan_blocks")
    if layout is not None and layout.dtype.kind != "U":
        raise _bad(what, f"its layout is {layout.dtype}; expected a layout's name")
    if nan_blocks is not None and (nan_blocks.dtype.kind != "b" or nan_blocks.size != 1):
        raise _bad(what, f"its nan_blocks is {nan_blocks.dtype} of shape {nan_blocks.shape}; expected true or false")
    try:
        return Quantized.from_parts(
            codes,
            parts.get("scales"),
            overall if overall is None or batches else float(overall.reshape(())[()]),
            fmt,
            shape,
            layout=None if layout is None else str(layout),
            offsets=offsets,
            nan_blocks=nan_blocks is not None and bool(nan_blocks.all()),
        )
    except ValueError as error:
        raise _bad(what, str(error)) from error


def _read_array(file: IO[bytes], size: int, what: str) -> Array:
    """The array of an open .npy file of `size` bytes."""
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise _bad(what, f"version {version[0]}.{version[1]} of .npy, which is for structured elements")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except RuntimeFault:
        raise
    # numpy evaluates the header as a Python literal, which has many ways to fail.
    except Exception as error:
        raise _bad(what, f"its header cannot be read: {str(error)[:200] or type(error).__name__}") from error
    text = dtype.kind == "U" and shape == () and dtype.itemsize <= _MAX_TEXT
    if dtype.hasobject or (dtype.kind not in "biuf" and not text):
        found = "Python objects, which are never unpickled" if dtype.hasobject else f"elements of type {dtype}"
        raise _bad(what, f"it holds {found}", "write booleans, integers or floats; raw codes as uint8 or uint16")
    if len(shape) > MAX_AXES or any(type(n) is not int or n < 0 for n in shape):
        raise _bad(what, f"its shape {str(shape)[:80]} is no array's")
    needed = dtype.itemsize * math.prod(shape)
    here = size - file.tell()
    if needed != here:
        raise _bad(what, f"{dtype} of shape {shape} takes {needed} bytes, and {here} follow the header")
    check_memory(2 * needed, None, f"reading {what}")
    data = file.read(needed)
    if len(data) != needed or file.read(1):
        raise _bad(what, f"it ends after {len(data)} of {needed} bytes")
    array: Array = np.frombuffer(bytearray(data), dtype)  # a copy, which can be written
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if fortran else "C")


def _read_archive(file: BinaryIO, size: int, at: Path) -> dict[str, Array]:
    try:
        _check_directory(file, size, at)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, size, at)
            found: dict[str, Array] = {}
            for member in members:
                what = f"{at}, member {member.filename}"
                with archive.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = _read_array(stream, member.file_size, what)
            return found
    except RuntimeFault:
        raise
    except _ZIP_ERRORS as error:
        raise _bad(str(at), f"its archive is damaged: {str(error)[:200] or type(error).__name__}") from error


def _check_members(members: list[zipfile.ZipInfo], size: int, at: Path) -> None:
    names = [member.filename for member in members]
    total = sum(member.file_size for member in members)
    if len(members) > MAX_MEMBERS:
        raise CheckpointError(f"{at} holds {len(members)} arrays; at most {MAX_MEMBERS} are read", code="FP6411")
    if len(set(names)) < len(names):
        raise _bad(str(at), "two of its arrays have one name")
    for member in members:
        if not member.filename.endswith(".npy") or member.filename == ".npy":
            raise _bad(str(at), f"its member {member.filename!a:.80} is no .npy file")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise _bad(str(at), f"its member {member.filename} is encrypted or packed in a way that numpy never writes")
    if total > FREE_BYTES + MAX_RATIO * size:
        raise CheckpointError(
            f"{at} has {size} bytes and unpacks to {total}", code="FP6411", help="write it with np.savez, unpacked"
        )
    check_memory(2 * total, None, f"reading {at}")


def _check_directory(file: BinaryIO, size: int, at: Path) -> None:
    """The archive's directory is small: zipfile reads all of it before it says how much there is."""
    tail_size = min(size, 65557)  # the record that ends an archive: 22 bytes, and a comment of up to 65535
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise _bad(str(at), "its archive has no end: it is incomplete")
    (directory,) = struct.unpack_from("<I", tail, end + 12)
    locator = end - 20
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        (offset,) = struct.unpack_from("<Q", tail, locator + 8)
        if offset > size - 56:
            raise _bad(str(at), "its archive's directory lies outside of it")
        file.seek(offset)
        (directory,) = struct.unpack_from("<Q", file.read(56), 40)
    if directory > MAX_DIRECTORY:
        raise CheckpointError(
            f"{at}: the archive's directory has {directory} bytes; at most {MAX_DIRECTORY} are read", code="FP6411"
        )
    file.seek(0)


def _bad(what: str, why: str, help: str = "") -> CheckpointError:
    return CheckpointError(f"{what}: {why}", code="FP6410", help=help)
