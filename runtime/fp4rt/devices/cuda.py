"""The device "cuda": NVIDIA GPUs through cuda-python's driver bindings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from fp4rt.cuda.calls import CallPacker, HostCall, TensorCall
from fp4rt.cuda.driver import context, stream_handle
from fp4rt.cuda.listed import HostList, TensorList
from fp4rt.cuda.module import load_entries, runs_on
from fp4rt.cuda.repeated import Repeated
from fp4rt.errors import DeviceError

if TYPE_CHECKING:
    from fp4rt.artifact import Artifact
    from fp4rt.devices.base import Launcher
    from fp4rt.resolve import Resolved
    from fp4rt.signature import Call, Signature


class CudaDevice:
    """One GPU, by its CUDA ordinal; None is the current context's device, or the first.

    Raises DeviceError FP6302 where there is no driver, no cuda-python or no such device.
    """

    def __init__(self, ordinal: int | None = None) -> None:
        self._context = context(ordinal)

    @property
    def name(self) -> str:
        """ "cuda:0" """
        return f"cuda:{self._context.ordinal}"

    def supports(self, target: str) -> bool:
        """Whether the GPU's architecture is the target's."""
        return runs_on(target, self._context.capability)

    def load(self, artifact: Artifact) -> CudaExecutable:
        """Load the cubins under the device's lock; see `fp4rt.cuda.module.load_entries` for the errors."""
        if not artifact.manifest.modules():
            raise DeviceError(
                f"{artifact.manifest.name} was not compiled: it has a typed kernel, but no launches",
                help="compile it, or use device='reference'",
            )
        with self._context.load_lock:
            entries = load_entries(artifact, self._context)
        return CudaExecutable(CallPacker(artifact.manifest, entries, self._context))


class CudaExecutable:
    """An artifact loaded on a GPU."""

    def __init__(self, packer: CallPacker) -> None:
        self.packer = packer
        self.memory: int | None = packer.context.ordinal

    def repeated(self, signature: Signature, *, gradients: bool = True) -> Repeated | None:
        """The quick way for calls like one that was checked; None for a kernel with numbers that are not f32."""
        if any(a.dtype != "f32" for a in signature.params):
            return None
        return Repeated(signature, self.packer, gradients=gradients)

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """With torch and a stream other than its current one, allocate on that stream, as torch asks for."""
        if call.family != "torch" or stream is None:
            return nullcontext()
        torch: Any = sys.modules["torch"]
        if isinstance(stream, torch.cuda.Stream):
            return torch.cuda.stream(stream)
        return torch.cuda.stream(torch.cuda.ExternalStream(stream_handle(stream), device=self.memory))

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """Torch tensors: launches on their memory. Numpy arrays: copies in, launches, copies out, waits."""
        if call.family == "numpy":
            return HostCall(self.packer, call, plan, stream)
        if stream is None or not plan.workspace:
            return TensorCall(self.packer, call, plan, stream)
        with self.allocating(call, stream):  # the workspace
            return TensorCall(self.packer, call, plan, stream)

    def bind_many(
        self, problems: Sequence[tuple[Call, Resolved]], stream: object | None, *, again: bool
    ) -> TensorList | HostList:
        """The same for a list of problems, which is run `again` or once."""
        if problems[0][0].family == "numpy":
            return HostList(self.packer, problems, stream)
        with self.allocating(problems[0][0], stream):  # workspaces and tables
            return TensorList(self.packer, problems, stream, again=again)
