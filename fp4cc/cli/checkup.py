"""The findings of `fp4cc doctor`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fp4cc.version import version as fp4cc_version

State = Literal["fine", "absent", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`absent` is something optional that is not here, `missing` something needed; `fix` says what to do."""

    what: str
    state: State
    value: str
    fix: str = ""


def checkup() -> list[Finding]:
    """Everything worth knowing about this installation. Slow parts: asking the driver."""
    return [
        Finding("fp4cc", "fine", f"{fp4cc_version()} at {Path(__file__).resolve().parents[1]}"),
        _python(),
        *_requirements(),
        *_resources(),
        _cache(),
        _nvdisasm(),
        *_gpu(),
        _torch(),
    ]


def _python() -> Finding:
    return Finding("python", "fine", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _requirements() -> Iterator[Finding]:
    try:
        declared = requires("fp4cc") or []
    except PackageNotFoundError:
        yield Finding("installation", "missing", "fp4cc is not installed as a package", "pip install -e .")
        return
    for requirement in declared:
        wanted, _, condition = (part.strip() for part in requirement.partition(";"))
        if "extra" in condition:
            continue
        fix = f'pip install "{wanted}"'
        name = _distribution_name(wanted)
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(name, "missing", "not installed", fix)
            continue
        if not _satisfies(found, wanted[len(name) :]):
            yield Finding(name, "missing", f"{found}, but fp4cc needs {wanted}", fix)
        else:
            yield Finding(name, "fine", found)


def _distribution_name(requirement: str) -> str:
    name = requirement.strip()
    for i, c in enumerate(name):
        if not (c.isalnum() or c in "-_."):
            return name[:i]
    return name


def _satisfies(found: str, bounds: str) -> bool:
    """Whether a release number meets comma-separated bounds of the forms that pyproject.toml uses."""
    have = _release(found)
    for bound in filter(None, (b.strip() for b in bounds.split(","))):
        if bound.startswith("=="):
            ok = have == _release(bound[2:])
        elif bound.startswith(">="):
            ok = have >= _release(bound[2:])
        elif bound.startswith("<"):
            ok = have < _release(bound[1:])
        else:
            ok = True
        if not ok:
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return (*numbers, 0, 0, 0)[:3]


def _resources() -> Iterator[Finding]:
    from fp4cc.resources import grammar_dir, templates_dir

    for what, where in (("grammar", grammar_dir), ("templates", templates_dir)):
        try:
            yield Finding(what, "fine", str(where()))
        except FileNotFoundError as error:
            yield Finding(what, "missing", str(error), "reinstall fp4cc")


def _cache() -> Finding:
    from fp4cc.cache import Store

    store = Store()
    root = store.root
    usage = store.usage()
    value = f"{root}: {usage.entries} entries, {usage.size / 1e6:.1f} MB of {store.limit / 1e6:.0f} MB"
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding("cache", "absent", f"{value}, not writable", "set FP4CC_CACHE_DIR to a writable folder")
    return Finding("cache", "fine", value)


def _nvdisasm() -> Finding:
    from fp4cc.backend.sass import find_nvdisasm

    path = find_nvdisasm()
    if path is None:
        value = "not found; only `emit --stage sass` needs it"
        return Finding("nvdisasm", "absent", value, "pip install nvidia-cuda-nvdisasm")
    return Finding("nvdisasm", "fine", str(path))


def _gpu() -> Iterator[Finding]:
    from fp4rt.cuda.driver import check, driver
    from fp4rt.errors import DeviceError

    try:
        cuda = driver()
        number = check(cuda.cuDriverGetVersion(), "cuDriverGetVersion")
        yield Finding("driver", "fine", f"CUDA {number // 1000}.{number % 1000 // 10}")
        kind = cuda.CUdevice_attribute
        for ordinal in range(check(cuda.cuDeviceGetCount(), "cuDeviceGetCount")):
            device = check(cuda.cuDeviceGet(ordinal), "cuDeviceGet")
            name = check(cuda.cuDeviceGetName(128, device), "cuDeviceGetName").decode().rstrip("\0")
            major, minor = (
                check(cuda.cuDeviceGetAttribute(which, device), "cuDeviceGetAttribute")
                for which in (
                    kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                    kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                )
            )
            yield Finding(f"cuda:{ordinal}", "fine", f"{name}, sm_{major}{minor}{'a' if major >= 9 else ''}")
    except DeviceError as error:
        yield Finding("GPU", "absent", f"{_first_line(error.message)}; kernels run on the emulator")


def _torch() -> Finding:
    if find_spec("torch") is None:
        return Finding("torch", "absent", "not installed; kernels take numpy arrays, and torch tensors where it is")
    try:
        return Finding("torch", "fine", version("torch"))
    except PackageNotFoundError:
        return Finding("torch", "fine", "found, version unknown")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
