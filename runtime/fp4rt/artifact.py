"""An artifact: NAME.json with the cubin and PTX files beside it; read, verified and written without surprises.

A hash in the manifest proves that a file is whole, not where it comes from: a cubin is native code (docs/runtime.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fp4rt.errors import ArtifactError
from fp4rt.manifest import Manifest, dumps, loads

if TYPE_CHECKING:
    from fp4rt.devices.base import Device
    from fp4rt.kernel import Kernel

#: A base name: no separators, no leading dot, nothing a shell or a file system reads specially.
_BASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_MAX_MANIFEST = 64 << 20
_MAX_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled kernel in memory. `files` maps base names (NAME.cubin, NAME.ptx) to their bytes.

    Only the files in `manifest.files` count as loaded code; `extras` (sources, SASS) are written beside them by `save`.
    """

    manifest: Manifest
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    extras: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def __repr__(self) -> str:
        sizes = {name: len(content) for name, content in self.files.items()}
        listed = [f"{name} ({size} bytes)" for name, size in sizes.items()]
        files = ", ".join(listed) if len(listed) <= 4 else f"{len(listed)} files of {sum(sizes.values())} bytes"
        return f"<fp4rt artifact {self.manifest.name} for {self.manifest.target}: {files or 'no files'}>"

    @staticmethod
    def build(manifest: Manifest, files: Mapping[str, bytes], extras: Mapping[str, bytes] | None = None) -> Artifact:
        """An artifact whose manifest lists these files with their hashes."""
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        artifact = Artifact(replace(manifest, files=hashes), dict(files), dict(extras or {}))
        artifact.verify()
        return artifact

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Artifact:
        """Read NAME.json and the files it lists.

        Raises ArtifactError: FP6001 (missing, not a regular file, too large), FP6002 and FP6003 (manifest), FP6004 (a
        file's hash differs), FP6005 (a name that is no base name, or a symbolic link).
        """
        manifest_path = Path(path)
        try:
            text = _read(manifest_path, _MAX_MANIFEST).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{manifest_path} is not UTF-8: {error}") from error
        manifest = loads(text)
        for name in manifest.files:
            _check_name(name)
        files = {name: _read(manifest_path.parent / name, _MAX_FILE) for name in manifest.files}
        artifact = Artifact(manifest, files)
        artifact.verify()
        return artifact

    def verify(self) -> None:
        """Names, hashes, and that each module a launch uses has its files; ArtifactError otherwise."""
        _check_name(self.manifest.name)
        for name in (*self.manifest.files, *self.extras):
            _check_name(name)
        for name, expected in self.manifest.files.items():
            content = self.files.get(name)
            if content is None:
                raise ArtifactError(f"{name} is listed in the manifest but missing", code="FP6001")
            actual = hashlib.sha256(content).hexdigest()
            if actual != expected:
                raise ArtifactError(
                    f"{name} has sha256 {actual[:16]}..., the manifest says {expected[:16]}...",
                    code="FP6004",
                    help="the file was changed or is incomplete: copy the artifact again, or compile it again",
                )
        for module in self.manifest.modules():
            if f"{module}.cubin" not in self.files and f"{module}.ptx" not in self.files:
                raise ArtifactError(f"a launch uses {module}, but neither {module}.cubin nor {module}.ptx is listed")

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the files, then the manifest as the mark that all are there; each atomically. Returns its path.

        Raises ArtifactError FP6008 where the directory cannot be written.
        """
        self.verify()
        folder = Path(directory)
        path = folder / f"{self.manifest.name}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in (*self.files.items(), *self.extras.items()):
                _write(folder / name, content)
            _write(path, dumps(self.manifest).encode())
        except OSError as error:
            raise ArtifactError(f"cannot write the artifact to {folder}: {error}", code="FP6008") from error
        return path

    def ptx(self, module: str | None = None) -> str:
        """The PTX text of a module (None: the only or main one); ArtifactError if it was not kept."""
        return self._file(module, "ptx").decode()

    def cubin(self, module: str | None = None) -> bytes:
        """The cubin of a module (None: the only or main one); ArtifactError if it was not kept."""
        return self._file(module, "cubin")

    def load_kernel(self, device: str | Device = "auto") -> Kernel:
        """A callable kernel on a device: "auto", "cuda", "cuda:1", "emulator", "reference", or a device object."""
        from fp4rt.kernel import Kernel

        return Kernel(self, device)

    def _file(self, module: str | None, suffix: str) -> bytes:
        name = f"{module or self.manifest.name}.{suffix}"
        content = self.files.get(name)
        if content is None:
            listed = ", ".join(self.files) or "no files"
            raise ArtifactError(f"the artifact has no {name}; it has {listed}", code="FP6001")
        return content


def _check_name(name: str) -> None:
    if not _BASE_NAME.fullmatch(name):
        raise ArtifactError(
            f"{name!r} is not a plain file name", code="FP6005", help="letters, digits, and _ . + - only"
        )


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that is no symbolic link and no larger than `limit`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise ArtifactError(
                f"{path} is a symbolic link", code="FP6005", help="name the file itself: links are not followed"
            ) from error
        raise ArtifactError(f"cannot read {path}: {error.strerror}", code="FP6001") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        os.close(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is not a regular file", code="FP6001")
        raise ArtifactError(f"{path} has {status.st_size} bytes; the limit is {limit}", code="FP6001")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically: a temporary file beside it, synced, renamed over it."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
