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
from typing import Any, TypeAlias

import numpy as np

from fp4rt.errors import CheckpointError
from fp4rt.io.files import MAX_JSON, open_regular, parse_json
from fp4rt.io.tensors import DTYPES, Tensor, as_tensor

#: Bits of an element: those of the types that are read, and of others, so that a file with them can be checked.
BITS = {
    **{name: 8 * np.dtype(held).itemsize for name, held in DTYPES.items()},
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64,
}  # fmt: skip
MAX_AXES = 32
#: A tensor's dtype, shape in elements, and bytes.
_Stored: TypeAlias = "tuple[str, tuple[int, ...], Any]"
INDEX = "model.safetensors.index.json"


class Checkpoint(Mapping[str, Tensor]):
    """Tensors by name, mapped into memory: reading one touches its own bytes only. `metadata` is the file's own.

    A tensor of a type that numpy cannot hold (F6, C64, the FNUZ types) is there by name; asking for it raises
    CheckpointError FP6412. F4 comes as its bytes [.., K/2], two elements each, the first in the low half.
    """

    def __init__(self, tensors: dict[str, _Stored], metadata: dict[str, str]) -> None:
        self._tensors = tensors
        self.metadata = metadata

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, raw = self._tensors[name]
        if dtype not in DTYPES:
            raise CheckpointError(
                f"{name} is of the type {dtype}, which is not supported",
                code="FP6412",
                help=f"read are {', '.join(DTYPES)}; the file's other tensors can be read",
            )
        if dtype == "F4":  # two elements a byte, along the last axis
            if not shape or shape[-1] % 2:
                raise CheckpointError(f"{name} is F4 {list(shape)}: its rows are not whole bytes", code="FP6412")
            shape = (*shape[:-1], shape[-1] // 2)
        return Tensor(dtype, raw.view(DTYPES[dtype]).reshape(shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """A `.safetensors` file, an index of several (`model.safetensors.index.json`), or a folder that holds either.

    Raises `CheckpointError`: FP6401 for a file that is missing or not in the format, FP6411 for one over a limit.
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
            "shape": [*tensor.shape[:-1], 2 * tensor.shape[-1]] if tensor.dtype == "F4" else list(tensor.shape),
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
    file, _ = open_regular(at)
    with file:
        index = parse_json(file.read(MAX_JSON + 1), str(at))
    names: Any = index.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(shard, str) for shard in names.values()):
        raise CheckpointError(f"{at} is no index of .safetensors files: it has no weight_map", code="FP6401")
    shards: dict[str, Checkpoint] = {}
    tensors: dict[str, _Stored] = {}
    for name, shard in names.items():
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise CheckpointError(f"{at}: {shard!a:.80} is no plain .safetensors file name", code="FP6401")
        if shard not in shards:
            shards[shard] = _one(at.parent / shard)
        if name not in shards[shard]:
            raise CheckpointError(f"{at}: {shard} does not hold {name!a:.80}", code="FP6401")
        tensors[name] = shards[shard]._tensors[name]  # pyright: ignore[reportPrivateUsage]
    merged = {key: value for shard in shards.values() for key, value in shard.metadata.items()}
    return Checkpoint(tensors, merged)


def _one(at: Path) -> Checkpoint:
    file, total = open_regular(at)
    with file:
        length = int.from_bytes(file.read(8), "little")
        if total < 8 or length > total - 8:
            raise CheckpointError(f"{at} is no .safetensors file: a header of {length} bytes in {total}", code="FP6401")
        if length > MAX_JSON:
            raise CheckpointError(f"{at}: a header of {length} bytes; at most {MAX_JSON} are read", code="FP6411")
        header = parse_json(file.read(length), f"the header of {at}")
        data = np.memmap(file, np.uint8, "r") if total else np.empty(0, np.uint8)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{at}: __metadata__ is no object of strings", code="FP6401")
    entries = sorted(((*_entry(at, name, entry), name) for name, entry in header.items()), key=lambda e: e[2])
    tensors: dict[str, _Stored] = {}
    end_of_last = 0
    for dtype, shape, (begin, end), name in entries:
        # "The byte buffer needs to be entirely indexed, and cannot contain holes" (the format's README).
        if begin != end_of_last:
            raise CheckpointError(f"{at}: the bytes of {name!a:.80} begin at {begin}, not {end_of_last}", code="FP6401")
        end_of_last = end
        tensors[name] = dtype, shape, data[8 + length + begin : 8 + length + end]
    if end_of_last != total - 8 - length:
        raise CheckpointError(
            f"{at} holds {total - 8 - length} bytes of tensors; its header says {end_of_last}: it is incomplete",
            code="FP6401",
        )
    return Checkpoint({name: tensors[name] for name in header}, dict(metadata))


def _entry(at: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """The dtype, shape and bytes of a tensor, which fit one another."""
    fields = entry if isinstance(entry, dict) else {}
    dtype: Any = fields.get("dtype")
    shape, place = (_sizes(fields.get(key)) for key in ("shape", "data_offsets"))
    if not isinstance(dtype, str) or shape is None or place is None or len(place) != 2 or len(shape) > MAX_AXES:
        raise CheckpointError(f"{at}: the header's entry of {name!a:.80} is malformed", code="FP6401")
    begin, end = place
    bits = BITS.get(dtype)
    if end < begin or (bits is not None and (end - begin) * 8 != math.prod(shape) * bits):
        raise CheckpointError(
            f"{at}: the bytes {begin}..{end} of {name!a:.80} do not hold {dtype} {str(list(shape))[:80]}", code="FP6401"
        )
    return dtype, shape, (begin, end)


def _sizes(value: Any) -> tuple[int, ...] | None:
    """A list of whole numbers, none negative; None for anything else."""
    return tuple(value) if isinstance(value, list) and all(type(n) is int and n >= 0 for n in value) else None
