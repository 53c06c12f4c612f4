"""`load` and `Kernel`: the call that is the same on every device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fp4num import Quantized
from fp4rt import arrays
from fp4rt.arrays import Output
from fp4rt.artifact import Artifact
from fp4rt.devices import open_device
from fp4rt.devices.base import Device, Executable, Launcher, Quick
from fp4rt.errors import ArgumentError, DeviceError
from fp4rt.manifest import Manifest
from fp4rt.many import BoundMany, bind_many
from fp4rt.plan import prepared_buffer
from fp4rt.prepared import Preparing
from fp4rt.preparing import prepare
from fp4rt.resolve import Key, Resolved, resolve
from fp4rt.signature import Call, Signature, complete_dims

if TYPE_CHECKING:
    from fp4rt.torch import Operator

_F = TypeVar("_F", bound="Callable[..., Any]")
#: Sets of dims whose resolved plans are kept; past it all are dropped, since sizes then hardly repeat.
_MAX_PLANS = 512


def load(path: str | os.PathLike[str], device: str | Device = "auto") -> Kernel:
    """Load NAME.json and its files for a device: "auto", "cuda", "cuda:1", "emulator" or "reference", or a device
    object such as `EmulatorDevice(mode="delayed", seed=1)`.

    Raises ArtifactError (see `Artifact.load`) and DeviceError (FP6301 unknown name, FP6302 not available).
    """
    return Kernel(Artifact.load(path), device)


def _untraced(function: _F) -> _F:
    """A function that torch.compile calls and does not look into: the mark that `torch.compiler.disable` leaves."""
    function.__dict__["_torchdynamo_disable"] = True
    function.__dict__["_torchdynamo_disable_msg"] = (
        "FP6119: an fp4rt kernel is no operator of torch yet; kernel.as_torch_op('ns::name') makes it one"
    )
    return function


_frame_callback: Callable[[], object] | None = None


def _within_compiled() -> bool:
    """Whether torch.compile may look at the functions that are called now. Dynamo is imported."""
    global _frame_callback
    found = _frame_callback
    if found is None:
        frames = getattr(sys.modules["torch"]._C._dynamo, "eval_frame", None)
        _frame_callback = found = getattr(frames, "get_eval_frame_callback", None) or (lambda: True)
    return found() is not None


class Kernel:
    """A loaded kernel. Calling it takes the spec's arguments by name and returns its outputs by name.

    Arrays are numpy's or torch's (all of one kind), quantized arguments are `Quantized`, device scalars 0-d arrays,
    params plain numbers. Safe to call from several threads.
    """

    def __init__(self, artifact: Artifact, device: str | Device = "auto") -> None:
        self.artifact = artifact
        #: The name that the device was asked for by; None where it is an object.
        self.selector = device if isinstance(device, str) else None
        self._device = open_device(device, artifact) if isinstance(device, str) else device
        self.executable: Executable = self._device.load(artifact)
        self.signature = Signature(artifact.manifest.kernel, self.executable.memory)
        self._plans: dict[tuple[Key, frozenset[str]], Resolved] = {}
        self.preparing = Preparing(artifact.manifest, reads=getattr(self.executable, "launches", True))
        self._host: Kernel | None = None
        self._outside: Callable[..., dict[str, Output]] | None = None
        self._op: Operator | None = None  # what torch.compile sees of a call
        self._shadowing = {a.name for a in artifact.manifest.kernel.args} & {"workspace", "stream"}
        self.quick = self.new_quick()
        self._quantized = [s.name for s in self.signature.ins if s.format is not None]
        self._dim_names = [d.name for d in artifact.manifest.kernel.dims]

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.artifact.manifest

    @property
    def name(self) -> str:
        """The kernel's name in the spec."""
        return self.artifact.manifest.kernel.name

    @property
    def device(self) -> str:
        """The device it runs on: "cuda:0", "emulator" or "reference"."""
        return self._device.name

    def __repr__(self) -> str:
        return f"<fp4rt kernel {self.name} for {self.manifest.target} on {self.device}>"

    def __copy__(self) -> Kernel:
        """The kernel itself: nothing of it changes."""
        return self

    def __deepcopy__(self, memo: object) -> Kernel:
        """The kernel itself: nothing of it changes."""
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as its artifact and the device's name, and loaded again where it is unpickled."""
        if self.selector is None:
            raise DeviceError(
                f"{self!r} cannot be pickled: its device is an object, not a name",
                code="FP6122",
                help="pickle kernel.artifact, and load it on a device of your own with artifact.load_kernel(device)",
            )
        return Kernel, (self.artifact, self.selector)

    def __call__(
        self,
        /,
        *,
        out: Mapping[str, object] | None = None,
        workspace: object | None = None,
        stream: object | None = None,
        **args: object,
    ) -> dict[str, Output]:
        """Run once and return the outputs by name.

        `out` gives memory for outputs; `workspace` is an array of at least `workspace_size` bytes; `stream` a CUDA
        stream (torch's, cuda-python's, or its address). An argument of the kernel with one of these names goes first.
        With torch tensors the work is queued on the stream (default: torch's current one) and nothing waits; with
        numpy arrays the outputs are ready on return. With torch tensors, `out` and `workspace` given, a call
        allocates no device memory and does not synchronize.
        """
        if self._op is not None and self._op.compiling:
            return self._op.traced(args, out, workspace, stream)
        return self._run(args, out, workspace, stream)

    @_untraced
    def _run(
        self,
        args: Mapping[str, object],
        out: Mapping[str, object] | None,
        workspace: object | None,
        stream: object | None,
    ) -> dict[str, Output]:
        if "torch._dynamo" not in sys.modules or not _within_compiled():
            quick = self.quick
            if quick is not None:
                outputs = quick(args, out, workspace, stream)
                if outputs is not None:
                    return outputs
            return self._run_now(args, out, workspace, stream)
        outside = self._outside
        if outside is None:  # torch.compile looks at functions as they are called, and not into this one
            outside = self._outside = sys.modules["torch"].compiler.disable(self._run_now)
        return outside(args, out, workspace, stream)

    def _run_now(
        self,
        args: Mapping[str, object],
        out: Mapping[str, object] | None,
        workspace: object | None,
        stream: object | None,
    ) -> dict[str, Output]:
        call, launcher = self.checked(args, out, workspace, stream)
        launcher(None)
        if self.quick is not None and call.family == "torch":
            self.quick.learn(args, out, workspace, call, self.resolve(call.dims, call.prepared))
        return call.outputs

    @_untraced
    def bind(
        self,
        /,
        *,
        out: Mapping[str, object] | None = None,
        workspace: object | None = None,
        stream: object | None = None,
        **args: object,
    ) -> Bound:
        """Check and pack the arguments once; the result runs the kernel on this same memory each time it is called."""
        call, launcher = self.checked(args, out, workspace, stream)
        if (first := getattr(launcher, "prepare", None)) is not None:
            first()
        return Bound(self, call, launcher)

    @_untraced
    def many(
        self,
        problems: Sequence[Mapping[str, object] | Sequence[object]],
        /,
        *,
        out: Sequence[Mapping[str, object] | None] | None = None,
        stream: object | None = None,
    ) -> list[dict[str, Output]]:
        """Run a list of problems, each with sizes of its own, and return the outputs of each: those of a call.

        A problem is a dict of what a call takes (`out` too), or a tuple of its inputs and params in the spec's order.
        On a GPU and on the emulator the problems that take one plan are one launch, in which nothing says what runs
        first; on the reference they run one after the other. See `bind_many` for lists that are run again.

        Raises what a call raises, with the number of the problem; DeviceError FP6320 (not compiled for lists) and
        FP6324, ArgumentError FP6321 to FP6323.
        """
        return bind_many(self, problems, out, stream, again=False)()

    @_untraced
    def bind_many(
        self,
        problems: Sequence[Mapping[str, object] | Sequence[object]],
        /,
        *,
        out: Sequence[Mapping[str, object] | None] | None = None,
        stream: object | None = None,
    ) -> BoundMany:
        """Check and pack a list of problems once, tensor maps too; the result runs `many` on this same memory."""
        return bind_many(self, problems, out, stream, again=True)

    @_untraced
    def prepare(self, value: Quantized | None = None, /, **named: Quantized) -> Quantized:
        """Make once what plans of this kernel would make of weights at each call, or do not take otherwise.

        `kernel.prepare(w)` where one argument can be prepared, or `kernel.prepare(w=w)`. The result is the same tensor
        (same codes and scales, not copied) with a buffer of its own beside them (`prepared`): each call that gets it
        takes the plans that read this where they are faster, and the others otherwise. It waits until all is made.
        Where scales of a row lie too far apart, nothing is kept, and calls on the result read codes and scales.

        Raises ArgumentError FP6313 (nothing of this kernel is prepared), FP6314 (which argument?), and what a call
        raises for a value that is not the argument's.
        """
        return prepare(self, value, named)

    def new_quick(self, **how: bool) -> Quick | None:
        """A way of its own for calls like one that was checked; None where there is none. See `Quick`."""
        quick = None if self._shadowing else getattr(self.executable, "repeated", None)
        return None if quick is None else quick(self.signature, **how)

    def workspace_size(self, **dims: int) -> int:
        """The bytes of workspace that a call with these dynamic dims needs, on arguments that are prepared or not."""
        known = {d.name: d.value for d in self.manifest.kernel.dims if d.value is not None}
        names = {d.name for d in self.manifest.kernel.dims}
        for name, value in dims.items():
            if name not in names:
                raise ArgumentError(
                    f"{self.name} has no dim {name!r}; dims: {', '.join(sorted(names))}", argument=name, code="FP6101"
                )
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise ArgumentError(f"{name} is {value!r}: a dim is a whole number", argument=name, code="FP6110")
        every = complete_dims(self.manifest.kernel, {**known, **dims})
        each = [frozenset[str](), *(frozenset((name,)) for name in self.preparing.arguments)]
        return max(self.resolve(every, prepared).workspace for prepared in each)

    def resolve(self, dims: Mapping[str, int], prepared: frozenset[str] = frozenset()) -> Resolved:
        """The plan for a full set of dims and the arguments that are prepared; every constraint is checked. Cached."""
        key = tuple([dims[name] for name in self._dim_names]), prepared
        plan = self._plans.get(key)
        if plan is None:
            plan = resolve(self.manifest, dims, prepared)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def as_torch_op(self, name: str) -> Operator:
        """The kernel as the operator `name` ("ns::name") of torch: see `fp4rt.torch.as_op`."""
        from fp4rt.torch import as_op

        self._op = as_op(self, name)
        return self._op

    def on_host(self) -> Kernel:
        """The kernel for tensors on the CPU: itself on the emulator or the reference, else on the reference."""
        if self.executable.memory is None:
            return self
        if self._host is None:
            self._host = Kernel(self.artifact, "reference")
        return self._host

    def on_cuda(self, index: int) -> Kernel:
        """The kernel for tensors on a GPU: loaded anew on another one than its own; itself, which then refuses them,
        where it was loaded for the emulator or the reference."""
        if self.executable.memory in (None, index):
            return self
        return Kernel(self.artifact, f"cuda:{index}")

    def wrong_names(self, args: Mapping[str, object]) -> ArgumentError:
        """The error for arguments of other names than the kernel's, or too few."""
        return self.signature.wrong_names(args)

    def checked(
        self,
        args: Mapping[str, object],
        out: Mapping[str, object] | None = None,
        workspace: object | None = None,
        stream: object | None = None,
    ) -> tuple[Call, Launcher]:
        """A call whose arguments are checked, and what runs it."""
        if self._shadowing:  # an argument of the kernel with this name goes first
            own = {"workspace": workspace, "stream": stream}
            args = {**args, **{name: own[name] for name in self._shadowing if own[name] is not None}}
            workspace = None if "workspace" in self._shadowing else workspace
            stream = None if "stream" in self._shadowing else stream
        try:
            call = self.signature.inputs(args)
        except ArgumentError as error:
            if error.code == "FP6109" and self.executable.memory is not None and arrays.all_on_host(args.values()):
                return self.on_host().checked(args, out, workspace, stream)
            raise
        plan = self._planned(call, args, out, stream)
        if workspace is not None:
            self._add_workspace(call, workspace, plan.workspace)
        return call, self.executable.bind(call, plan, stream)

    def call(
        self, args: Mapping[str, object], out: Mapping[str, object] | None, stream: object | None
    ) -> tuple[Call, Resolved]:
        """A call whose arguments are checked, with its outputs, and the plan that it takes."""
        call = self.signature.inputs(args)
        return call, self._planned(call, args, out, stream)

    def _planned(
        self, call: Call, args: Mapping[str, object], out: Mapping[str, object] | None, stream: object | None
    ) -> Resolved:
        """The plan of a call whose inputs are checked; its outputs are added to it."""
        self._add_prepared(call, args)
        plan = self.resolve(call.dims, call.prepared)
        if stream is None:
            self.signature.outputs(call, out)
        else:
            with self.executable.allocating(call, stream):
                self.signature.outputs(call, out)
        return plan

    def _add_prepared(self, call: Call, args: Mapping[str, object]) -> None:
        """Add to a call what is made once of its arguments. Raises ArgumentError FP6310 to FP6312."""
        found: list[str] = []
        for name in self._quantized:
            value = args[name]
            if isinstance(value, Quantized) and value.prepared is not None:
                buffer = self.preparing.read(name, value, call.parts)
                if buffer is not None:
                    call.parts[prepared_buffer(name)] = buffer
                    found.append(name)
        if found:
            call.prepared = frozenset(found)

    def _add_workspace(self, call: Call, workspace: object, needed: int) -> None:
        v = arrays.view(workspace)
        if v is None or not v.contiguous or not v.writable or v.masked or not v.plain:
            raise ArgumentError(
                "workspace: expected a writable contiguous numpy array or torch tensor",
                argument="workspace",
                code="FP6111",
            )
        if v.nbytes < needed:
            sizes = ", ".join(f"{name} = {value}" for name, value in call.dims.items())
            raise ArgumentError(
                f"workspace has {v.nbytes} bytes; {needed} are needed for {sizes}", argument="workspace", code="FP6111"
            )
        if v.family != call.family or (v.family == "torch" and v.device != self.executable.memory):
            raise ArgumentError(
                "workspace: it must be of the same kind and on the same device as the arguments",
                argument="workspace",
                code="FP6109",
            )
        call.add_workspace(v)


class Bound:
    """A kernel with its arguments: calling it runs it on the same memory again. `outputs` is what a call returns."""

    __slots__ = ("_call", "_launcher", "kernel")

    def __init__(self, kernel: Kernel, call: Call, launcher: Launcher) -> None:
        self.kernel = kernel
        self._call = call
        self._launcher = launcher

    def __reduce__(self) -> tuple[object, ...]:
        """A copy would run on the same memory, and a pickled one on none."""
        raise DeviceError(
            f"a bound call of {self.kernel.name} cannot be copied or pickled: it is tied to its memory",
            code="FP6122",
            help="copy or pickle the kernel, and bind it again",
        )

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} = {size}" for name, size in self._call.dims.items())
        return f"<fp4rt call of {self.kernel.name} on {self.kernel.device} at {sizes or 'fixed sizes'}>"

    @property
    def outputs(self) -> dict[str, Output]:
        """The outputs by name: the same arrays for every run."""
        return self._call.outputs

    def __call__(self, stream: object | None = None) -> dict[str, Output]:
        """Run once more; `stream` overrides the one given to `bind`."""
        self._launcher(stream)
        return self._call.outputs
