"""Opening data files that may come from anywhere: regular files only, JSON of bounded size and depth.

Links are followed: model hubs store checkpoints as links to their blobs. What a link leads to has to be a regular file.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from fp4rt.errors import CheckpointError

#: The largest JSON header or index that is read. Real ones have some megabytes; a parsed one takes 20 times its size.
MAX_JSON = 32 << 20


def open_regular(path: Path) -> tuple[BinaryIO, int]:
    """The file opened for reading, and its size. CheckpointError FP6401 where it is missing or no regular file.

    Never waits, as opening a pipe would.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", code="FP6401") from error
    except ValueError as error:  # a name with a null character
        raise CheckpointError(f"{str(path)!a} cannot be read: {error}", code="FP6401") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{path} is not a regular file", code="FP6401")
    return os.fdopen(descriptor, "rb"), status.st_size


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """The object in a text; CheckpointError FP6411 where it is too long or too deep, FP6401 where it is no object."""
    if len(text) > MAX_JSON:
        raise CheckpointError(f"{what} has {len(text)} bytes; at most {MAX_JSON} are read", code="FP6411")
    try:
        value: Any = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise CheckpointError(f"{what} is nested too deeply", code="FP6411") from error
    except ValueError as error:
        raise CheckpointError(f"{what} is no JSON: {error}", code="FP6401") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} is no JSON object", code="FP6401")
    return value  # pyright: ignore[reportUnknownVariableType]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
