"""What a device is to the rest of the runtime. A plug-in's entry point names a `DeviceFactory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from fp4rt.arrays import Output
from fp4rt.artifact import Artifact
from fp4rt.resolve import Resolved
from fp4rt.signature import Call

#: Runs a bound call once; its argument is a stream that overrides the one given when bound, or None.
Launcher: TypeAlias = "Callable[[object | None], None]"


class Executable(Protocol):
    """An artifact loaded on a device.

    One that runs lists of problems has a method `bind_many(problems, stream, *, again)` too: of calls with their plans,
    it gives a `Launcher` with the number of its `launches`. `again`: it will be run more than once.
    """

    @property
    def memory(self) -> int | None:
        """The CUDA device whose memory torch tensors must be in, None for host memory."""
        ...

    def allocating(self, call: Call, stream: object | None) -> AbstractContextManager[object]:
        """A scope in which the call's outputs are allocated, so that their memory is safe to use on `stream`."""
        ...

    def bind(self, call: Call, plan: Resolved, stream: object | None) -> Launcher:
        """Pack the call. `call.parts` has every buffer, and WORKSPACE if the caller gave one."""
        ...


class Quick(Protocol):
    """What an executable may have for calls like one that was checked: its optional method `repeated(signature)`, of
    which `gradients=False` makes one that runs no call with a tensor that requires a gradient."""

    def __call__(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, stream: object | None
    ) -> dict[str, Output] | None:
        """Run the call; None where nothing was done and it has to be checked."""
        ...

    def learn(
        self, args: Mapping[str, Any], out: Mapping[str, Any] | None, workspace: Any, call: Call, plan: Resolved
    ) -> None:
        """Remember a call that was checked and run."""
        ...


class Device(Protocol):
    """Where kernels run."""

    @property
    def name(self) -> str:
        """As messages and `Kernel.device` show it."""
        ...

    def supports(self, target: str) -> bool:
        """Whether artifacts for this target ("sm_100a") run here."""
        ...

    def load(self, artifact: Artifact) -> Executable:
        """Prepare an artifact; ArtifactError or DeviceError says why it cannot run here."""
        ...


#: Opens a device by its number (None: the default one).
DeviceFactory: TypeAlias = "Callable[[int | None], Device]"
