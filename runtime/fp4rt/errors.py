"""Every error the runtime raises on purpose: one class a kind of mistake, one stable code a message family.

`CODES` maps a code to its title; docs/diagnostics.md has a section for each. Codes FP6xxx belong to artifacts, data
and devices. User code catches `RuntimeFault` for all of them, or one of its subclasses.
"""

from __future__ import annotations

from typing import ClassVar

CODES: dict[str, str] = {
    # artifacts on disk
    "FP6001": "artifact cannot be read",
    "FP6002": "manifest does not follow the schema",
    "FP6003": "manifest has a schema version this runtime does not know",
    "FP6004": "artifact file differs from its hash",
    "FP6005": "unsafe file name in an artifact",
    "FP6006": "cubin does not match its manifest",
    "FP6007": "artifact is for another architecture",
    "FP6008": "artifact cannot be written",
    "FP6009": "manifest's kernel has no meaning",
    "FP6010": "manifest is over a limit",
    "FP6011": "no room for temporary files",
    # arguments of a call
    "FP6101": "unknown argument",
    "FP6102": "missing argument",
    "FP6103": "argument has the wrong kind of value",
    "FP6104": "argument has the wrong dtype",
    "FP6105": "argument has the wrong shape",
    "FP6106": "argument is not contiguous or not aligned",
    "FP6107": "arguments overlap in memory",
    "FP6108": "argument has another block format",
    "FP6109": "argument lives on the wrong device",
    "FP6110": "dimension is not determined",
    "FP6111": "workspace does not fit",
    "FP6112": "offsets or counts are out of range",
    "FP6113": "quantized argument is not grouped as its axis is",
    "FP6114": "block scales hold what is no scale",
    "FP6330": "numbers of rows are out of range",
    "FP6331": "a row is stored more than once",
    # torch
    "FP6115": "torch is not installed",
    "FP6116": "operator cannot be registered",
    "FP6117": "operator cannot be mapped",
    "FP6118": "operator has no gradient",
    "FP6119": "call cannot be compiled by torch",
    # calls
    "FP6120": "call needs more memory than there is",
    "FP6121": "call takes too long",
    "FP6122": "a kernel cannot be copied or pickled",
    # layers
    "FP6123": "kernels do not make this layer",
    "FP6124": "weight or scale is not the layer's",
    # experts
    "FP6125": "tokens cannot be sent to experts",
    "FP6126": "layer of experts lacks a scale or a bias",
    # models
    "FP6140": "no compiled kernels and no compiler",
    "FP6141": "artifacts lack a kernel",
    "FP6142": "no such recipe",
    "FP6143": "layer cannot be converted",
    "FP6144": "layer does not take this input",
    "FP6145": "gradient of a gradient",
    "FP6146": "weight cannot be cut into shards",
    "FP6147": "nothing is compiled for this device",
    "FP6148": "layer cannot be transformed by torch.func",
    "FP6149": "checkpoint does not fit the model",
    # sizes
    "FP6201": "constraint does not hold",
    "FP6202": "size cannot be computed",
    # files of the command line
    "FP6203": "file cannot be read or written",
    "FP6204": "not enough memory for the arrays",
    # devices
    "FP6301": "no such device",
    "FP6302": "device is not available",
    "FP6303": "CUDA was used before a fork",
    "FP6304": "CUDA call failed",
    "FP6305": "kernel needs more than the device has",
    "FP6306": "emulated kernel faulted",
    "FP6307": "reference does not know an operation",
    "FP6308": "kernel that is timed differs from the reference",
    # prepared arguments
    "FP6310": "argument is prepared for another kernel",
    "FP6311": "argument has changed since it was prepared",
    "FP6312": "argument was prepared on another device",
    "FP6313": "kernel prepares no argument",
    "FP6314": "no argument to prepare is named",
    "FP6315": "argument cannot be prepared now",
    # lists of problems
    "FP6320": "kernel was not compiled for lists of problems",
    "FP6321": "list of problems is malformed",
    "FP6322": "problems of a list share memory",
    "FP6323": "problems of a list have arrays of two kinds",
    "FP6324": "list of problems cannot be prepared now",
    # checkpoints
    "FP6401": "checkpoint cannot be read or written",
    "FP6402": "checkpoint lacks a tensor",
    "FP6403": "checkpoint's tensor has the wrong dtype",
    "FP6404": "checkpoint's tensor has the wrong shape",
    "FP6405": "checkpoint does not hold this format",
    "FP6406": "checkpoint has a tensor that changes what the weight means",
    "FP6407": "checkpoint's block scales hold what is no scale",
    "FP6408": "tensor scale has no reciprocal",
    # files of arrays
    "FP6410": "file of arrays cannot be read",
    "FP6411": "file of arrays is over a limit",
    "FP6412": "tensor's type is not supported",
}


class RuntimeFault(Exception):
    """Base of the runtime's errors.

    `code` is a key of `CODES`; `message` says what is wrong and where; `help` is the nearest thing that works, or "".
    """

    default_code: ClassVar[str] = "FP6001"

    def __init__(self, message: str, *, code: str | None = None, help: str = "") -> None:
        self.code = self.default_code if code is None else code
        self.message = message
        self.help = help
        super().__init__(f"{self.code}: {message}" + (f"\n  help: {help}" if help else ""))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled as a call of their class with `args`, which here is the text that they made of theirs.
        return _restored, (type(self), self.args, self.__dict__.copy())

    @property
    def title(self) -> str:
        """The short title of this code."""
        return CODES[self.code]


def _restored(kind: type[RuntimeFault], args: tuple[object, ...], state: dict[str, object]) -> RuntimeFault:
    """An error as it was before it was pickled or copied."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ArtifactError(RuntimeFault):
    """The artifact's files are missing, changed, malformed, or not for this device (FP600x)."""

    default_code = "FP6002"


class ArgumentError(RuntimeFault):
    """A value passed to a kernel does not fit its argument (FP61xx). `argument` is its name."""

    default_code = "FP6103"

    def __init__(self, message: str, *, argument: str = "", code: str | None = None, help: str = "") -> None:
        self.argument = argument
        super().__init__(message, code=code, help=help)


class ConstraintError(RuntimeFault):
    """A constraint of the kernel does not hold for the sizes of this call (FP6201)."""

    default_code = "FP6201"

    def __init__(self, message: str, *, text: str = "", span: str = "", help: str = "") -> None:
        self.text = text
        self.span = span
        super().__init__(message, help=help)


class DimensionError(RuntimeFault):
    """A size has no value for these dims: inexact division, overflow of 64 bits, a parameter over 32 (FP6202)."""

    default_code = "FP6202"


class DeviceError(RuntimeFault):
    """The device does not exist, is not available, or failed (FP63xx)."""

    default_code = "FP6302"


class CheckpointError(RuntimeFault):
    """A checkpoint's file or tensors are not what their convention says (FP640x)."""

    default_code = "FP6405"


class TorchError(RuntimeFault):
    """A kernel cannot do what torch is asked to do with it (FP6115 to FP6119, FP6123, FP6124, FP6142 to FP6146,
    FP6148, FP6149)."""

    default_code = "FP6116"


class ForkError(DeviceError):
    """The process was forked after CUDA had been initialized in its parent (FP6303)."""

    default_code = "FP6303"


class KernelFault(DeviceError):
    """The emulator stopped the kernel: a fault or a deadlock, whose report is the message (FP6306)."""

    default_code = "FP6306"
