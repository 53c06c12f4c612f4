"""Finding devices by name. Packages add theirs under the entry-point group "fp4rt.devices"."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from fp4rt.artifact import Artifact
from fp4rt.devices.base import Device, DeviceFactory
from fp4rt.errors import DeviceError

GROUP = "fp4rt.devices"
#: The runtime's own, so that they work from a source tree that was never installed.
_OWN = {
    "cuda": "fp4rt.devices.cuda:CudaDevice",
    "emulator": "fp4rt.devices.emulator:EmulatorDevice",
    "reference": "fp4rt.devices.reference:ReferenceDevice",
}


def device_names() -> tuple[str, ...]:
    """Every device name there is, installed plug-ins included."""
    return tuple(dict.fromkeys((*_OWN, *(e.name for e in entry_points(group=GROUP)))))


def open_device(selector: str, artifact: Artifact | None = None) -> Device:
    """The device for "auto", "reference", "emulator", "cuda" or "cuda:1".

    "auto" is the GPU where there is one of the artifact's architecture, else the emulator; an artifact that was never
    compiled gets the reference. Raises DeviceError: FP6301 for an unknown name, FP6302 for a device that is not there.
    """
    if selector == "auto":
        return _automatic(artifact)
    name, _, ordinal = selector.partition(":")
    if ordinal and not (ordinal.isascii() and ordinal.isdecimal()):
        raise DeviceError(f"device {selector!r}: {ordinal!r} is not a device number", code="FP6301")
    return _factory(name)(int(ordinal) if ordinal else None)


def _factory(name: str) -> DeviceFactory:
    target = _OWN.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()
    raise DeviceError(
        f"no device is called {name!r}", code="FP6301", help=f"one of auto, {', '.join(device_names())}, or cuda:1"
    )


def _automatic(artifact: Artifact | None) -> Device:
    if artifact is not None and not artifact.manifest.plan.launches and not artifact.manifest.variants:
        return _factory("reference")(None)
    try:
        device = _factory("cuda")(None)
        if artifact is None or device.supports(artifact.manifest.target):
            return device
    except DeviceError as error:
        if error.code != "FP6302":
            raise
    return _factory("emulator")(None)
