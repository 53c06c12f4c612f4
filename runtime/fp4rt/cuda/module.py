"""A cubin loaded on one device: parameter lists checked, attributes set, clusters counted, once for all calls."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fp4rt.artifact import Artifact
from fp4rt.cuda.driver import Context, check, driver, failure
from fp4rt.errors import ArtifactError, DeviceError
from fp4rt.manifest import Launch, PersistentGrid
from fp4rt.plan import over_list

_libraries: dict[str, Any] = {}
_lock = threading.Lock()
_TARGET = re.compile(r"sm_(\d+)(\d)([af]?)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One kernel of a cubin on a device, and how many clusters of its persistent launches fit at once."""

    function: Any
    max_clusters: int


def runs_on(target: str, capability: tuple[int, int]) -> bool:
    """Whether a cubin for `target` runs on a device: exactly its architecture, or within a family (`f`) or major.

    sm_100a runs on 10.0 alone, sm_100f on 10.x, x >= 0, and plain sm_90 on 9.x, x >= 0 (CUDA C++ guide, compute
    capabilities).
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        return False
    major, minor = int(match[1]), int(match[2])
    if match[3] == "a":
        return capability == (major, minor)
    return capability[0] == major and capability[1] >= minor


def load_entries(artifact: Artifact, context: Context) -> dict[Launch, Entry]:
    """Load every entry that the manifest's launches use. The caller holds the device's load lock.

    Raises ArtifactError FP6006 (entry or parameters differ), FP6007 (architecture), DeviceError FP6305 (resources).
    """
    manifest = artifact.manifest
    if not runs_on(manifest.target, context.capability):
        major, minor = context.capability
        raise ArtifactError(
            f"{manifest.name} is for {manifest.target}; cuda:{context.ordinal} has compute capability {major}.{minor}",
            code="FP6007",
            help=f"compile with --target sm_{major}{minor}a, or run with device='emulator'",
        )
    launches = [x for plan in manifest.plans().values() for x in plan.launches]
    launches += [over_list(x) for x in launches if x.many is not None]
    shared: dict[tuple[str, str], int] = {}
    for launch in launches:
        key = (launch.module or manifest.name, launch.entry)
        shared[key] = max(shared.get(key, 0), launch.smem)
    with context.current():
        return {x: _entry(artifact, context, x, shared) for x in dict.fromkeys(launches)}


def _entry(artifact: Artifact, context: Context, launch: Launch, shared: Mapping[tuple[str, str], int]) -> Entry:
    cu = driver()
    module = launch.module or artifact.manifest.name
    library = _library(artifact.cubin(module), module)
    result, kernel = cu.cuLibraryGetKernel(library, launch.entry.encode())
    if result != cu.CUresult.CUDA_SUCCESS:
        raise ArtifactError(f"{module}.cubin has no entry {launch.entry!r}", code="FP6006")
    _check_params(module, launch, _param_sizes(kernel))
    attribute = cu.CUfunction_attribute
    static = check(
        cu.cuKernelGetAttribute(attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel, context.device),
        "cuKernelGetAttribute",
    )
    if static + launch.smem > context.max_shared:
        raise DeviceError(
            f"{launch.entry} needs {static + launch.smem} bytes of shared memory a block; "
            f"cuda:{context.ordinal} has {context.max_shared}",
            code="FP6305",
        )
    settings = [(attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared[module, launch.entry])]
    if launch.cluster[0] * launch.cluster[1] * launch.cluster[2] > 8:
        settings.append((attribute.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1))
    for which, value in settings:
        check(cu.cuKernelSetAttribute(which, value, kernel, context.device), "cuKernelSetAttribute")
    # Loads the code into the context now, so that no launch has to (a load inside a graph capture is an error).
    function = check(cu.cuKernelGetFunction(kernel), f"loading {launch.entry}")
    return Entry(function, _max_clusters(context, function, launch) if isinstance(launch.grid, PersistentGrid) else 0)


def _library(cubin: bytes, name: str) -> Any:
    """Load a cubin once a process: a library serves all devices."""
    key = hashlib.sha256(cubin).hexdigest()
    with _lock:
        if key not in _libraries:
            if cubin[:4] != b"\x7fELF":
                raise ArtifactError(f"{name}.cubin is not a cubin (no ELF header)", code="FP6006")
            cu = driver()
            result, library = cu.cuLibraryLoadData(cubin, [], [], 0, [], [], 0)
            if result != cu.CUresult.CUDA_SUCCESS:
                raise ArtifactError(f"CUDA does not load {name}.cubin: {failure(result, 'cuLibraryLoadData').message}",
                                    code="FP6006")  # fmt: skip
            _libraries[key] = library
        return _libraries[key]


def _param_sizes(kernel: Any) -> list[int]:
    """The bytes of each parameter of a kernel.

    The offsets that CUDA gives are not compared: they count from the start of a constant bank whose alignment is the
    device's (a leading 64-aligned tensor map lies at 48 on sm_90a). Launches pass parameters by index.
    """
    cu = driver()
    out: list[int] = []
    while True:
        result, *info = cu.cuKernelGetParamInfo(kernel, len(out))
        if result == cu.CUresult.CUDA_ERROR_INVALID_VALUE:  # past the last one
            return out
        if result != cu.CUresult.CUDA_SUCCESS:
            raise failure(result, "cuKernelGetParamInfo")
        out.append(int(info[1]))


def _check_params(module: str, launch: Launch, found: list[int]) -> None:
    expected = [p.size for p in launch.params]
    if found != expected:
        where = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
        detail = (
            f"{len(found)} parameters against {len(expected)}"
            if where is None
            else f"parameter {where} has {found[where]} bytes against {expected[where]}"
        )
        raise ArtifactError(
            f"{launch.entry} of {module}.cubin does not have the manifest's parameters: {detail}", code="FP6006"
        )


@lru_cache(maxsize=1024)
def launch_config(launch_block: tuple[int, int, int], cluster: tuple[int, int, int], smem: int,
                  grid: tuple[int, int, int], stream: int, dependent: bool = False) -> Any:  # fmt: skip
    """A CUlaunchConfig, which all share; the cluster shape is an attribute, since a cubin does not hold it.

    `dependent`: the launch may begin while a kernel before it in the stream still runs.
    """
    cu = driver()
    config = cu.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = launch_block
    config.sharedMemBytes = smem
    config.hStream = cu.CUstream(stream)
    attributes: list[Any] = []
    if cluster != (1, 1, 1):
        attribute = cu.CUlaunchAttribute()
        attribute.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        attribute.value.clusterDim.x, attribute.value.clusterDim.y, attribute.value.clusterDim.z = cluster
        attributes.append(attribute)
    if dependent:
        attribute = cu.CUlaunchAttribute()
        attribute.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value.programmaticStreamSerializationAllowed = 1
        attributes.append(attribute)
    if attributes:
        config.attrs = attributes
        config.numAttrs = len(attributes)
    return config


def _max_clusters(context: Context, function: Any, launch: Launch) -> int:
    """How many clusters of a launch the whole device holds at once; DeviceError FP6305 if none."""
    cu = driver()
    if launch.cluster == (1, 1, 1):
        x, y, z = launch.block
        per_sm = check(
            cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, x * y * z, launch.smem),
            "cuOccupancyMaxActiveBlocksPerMultiprocessor",
        )
        sms = context.attribute(cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        count = per_sm * sms
    else:
        config = launch_config(launch.block, launch.cluster, launch.smem, launch.cluster, 0)
        count = check(cu.cuOccupancyMaxActiveClusters(function, config), "cuOccupancyMaxActiveClusters")
    if count < 1:
        size = launch.cluster[0] * launch.cluster[1] * launch.cluster[2]
        raise DeviceError(
            f"no cluster of {size} blocks of {launch.entry} ({launch.smem} bytes of shared memory each) fits on "
            f"cuda:{context.ordinal}",
            code="FP6305",
        )
    return count
