"""Files that commands write: each is whole or not there, whatever ends the command."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file that takes the place of `path` when the `with` ends, and is removed if it ends otherwise.

    A device or a pipe (`-o /dev/stdout`) is written to as it is. Raises OSError that names `path`.
    """
    if path.exists() and not path.is_file():
        with _naming(path), path.open("wb") as file:
            yield file
        return
    path = path.resolve()  # a link stays, and what it names is replaced
    with _naming(path):
        descriptor, temporary = tempfile.mkstemp(prefix=".fp4cc-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            umask = os.umask(0)
            os.umask(umask)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~umask
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise


def write_file(path: Path, data: bytes) -> None:
    """Write one file. Raises OSError that names it."""
    with replacing(path) as file:
        file.write(data)


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files to a folder, made if missing, in order; none is in place before all are written."""
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as waiting:
        # They are closed, and so put in place, last in, first out.
        for name in reversed(list(files)):
            waiting.enter_context(replacing(folder / name)).write(files[name])
    return [folder / name for name in files]


@contextmanager
def _naming(path: Path) -> Generator[None]:
    """Let an OSError name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror or str(error), str(path)) from None
