"""The safetensors file format, in numpy alone: numpy's own loader knows neither bf16 nor 8-bit floats.

Format: 8 bytes of header length (little endian), a JSON header {name: {dtype, shape, data_offsets}}, then the data
without holes. https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fp4rt.errors import CheckpointError
from fp4rt.io.tensors import DTYPES, Tensor, as_tensor

#: The largest header that is read, as in the reference implementation.
MAX_HEADER = 100_000_000
INDEX = "model.safetensors.index.json"


class Checkpoint(Mapping[str, Tensor]):
    """Tensors by name, mapped into memory: reading one touches its own bytes only. `metadata` is the file's own."""

    def __init__(self, tensors: dict[str, tuple[str, tuple[int, ...], Any]], metadata: dict[str, str]) -> None:
        self._tensors = tensors
        self.metadata = metadata

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, raw = self._tensors[name]
        return Tensor(dtype, raw.view(DTYPES[dtype]).reshape(shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """A `.safetensors` file, an index of several (`model.safetensors.index.json`), or a folder that holds either.

    Raises `CheckpointError` (FP6401) for a file that is missing or not in the format.
    """
    at = Path(path)
    if at.is_dir():
        found = [at / INDEX] if (at / INDEX).exists() else sorted(at.glob("*.safetensors"))
        if len(found) != 1:
            raise CheckpointError(f"{at} holds {len(found)} .safetensors files and no {INDEX}", code="FP6401")
        at = found[0]
    return _sharded(at) if at.suffix == ".json" else _one(at)


def save_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors (numpy's, torch's or `Tensor`) as one file, through a temporary file beside it."""
    at = Path(path)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    blobs: list[bytes] = []
    offset = 0
    # Larger elements first, so that every tensor is aligned to its element.
    named = [(name, as_tensor(value, name)) for name, value in tensors.items()]
    for name, tensor in sorted(named, key=lambda item: (-item[1].data.dtype.itemsize, item[0])):
        blob = np.ascontiguousarray(tensor.data).tobytes()
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = at.with_name(f".{at.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.writelines(blobs)
        temporary.replace(at)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{at} cannot be written: {error.strerror}", code="FP6401") from error


def _sharded(at: Path) -> Checkpoint:
    try:
        files = json.loads(at.read_text(encoding="utf-8"))["weight_map"]
        names = {str(name): str(file) for name, file in files.items()}
    except OSError as error:
        raise CheckpointError(f"{at} cannot be read: {error.strerror}", code="FP6401") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{at} is no index of .safetensors files: {error}", code="FP6401") from error
    shards: dict[str, Checkpoint] = {}
    tensors: dict[str, tuple[str, tuple[int, ...], Any]] = {}
    for name, file in names.items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise CheckpointError(f"{at}: {file!r} is no plain .safetensors file name", code="FP6401")
        if file not in shards:
            shards[file] = _one(at.parent / file)
        if name not in shards[file]:
            raise CheckpointError(f"{at}: {file} does not hold {name}", code="FP6401")
        tensors[name] = shards[file]._tensors[name]  # pyright: ignore[reportPrivateUsage]
    merged = {key: value for shard in shards.values() for key, value in shard.metadata.items()}
    return Checkpoint(tensors, merged)


def _one(at: Path) -> Checkpoint:
    try:
        with at.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            total = at.stat().st_size
            if size > min(MAX_HEADER, total - 8):
                raise CheckpointError(f"{at} is no .safetensors file: a header of {size} bytes", code="FP6401")
            header = json.loads(file.read(size))
    except OSError as error:
        raise CheckpointError(f"{at} cannot be read: {error.strerror}", code="FP6401") from error
    except ValueError as error:
        raise CheckpointError(f"{at} is no .safetensors file: its header is no JSON", code="FP6401") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{at} is no .safetensors file: its header is no object", code="FP6401")
    metadata = header.pop("__metadata__", {})
    start = 8 + size
    data = np.memmap(at, np.uint8, "r") if total else np.empty(0, np.uint8)
    tensors: dict[str, tuple[str, tuple[int, ...], Any]] = {}
    for name, entry in header.items():
        dtype, shape, (begin, end) = _entry(at, name, entry)
        if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize or start + end > total or begin < 0:
            raise CheckpointError(
                f"{at}: the bytes {begin}..{end} of {name} do not hold {dtype} {shape}", code="FP6401"
            )
        tensors[name] = dtype, shape, data[start + begin : start + end]
    return Checkpoint(tensors, {str(k): str(v) for k, v in metadata.items()})


def _entry(at: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    try:
        dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
        begin, end = (int(n) for n in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{at}: the header's entry of {name} is malformed", code="FP6401") from error
    if dtype not in DTYPES or any(n < 0 for n in shape):
        raise CheckpointError(f"{at}: {name} has the dtype {dtype} and the shape {shape}", code="FP6401")
    return dtype, shape, (begin, end)
