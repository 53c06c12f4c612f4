"""Calls of a kernel on a list of problems, each with arguments and sizes of its own: `Kernel.many`, `Kernel.bind_many`.

On the reference they run one after the other. On other devices the problems that take one plan are one launch of what
was compiled for lists (`fp4cc compile --many`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from fp4rt import arrays
from fp4rt.arrays import Output
from fp4rt.errors import ArgumentError, DeviceError, RuntimeFault

if TYPE_CHECKING:
    from fp4rt.devices.base import Executable, Launcher
    from fp4rt.manifest import Manifest
    from fp4rt.resolve import Resolved
    from fp4rt.signature import Call

E = TypeVar("E", bound=RuntimeFault)


class Owner(Protocol):
    """What a list needs of its kernel: see `fp4rt.Kernel`."""

    executable: Executable

    @property
    def manifest(self) -> Manifest: ...

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    def on_host(self) -> Owner: ...

    def call(
        self, args: Mapping[str, object], out: Mapping[str, object] | None, stream: object | None
    ) -> tuple[Call, Resolved]: ...


class BoundMany:
    """A kernel with a list of problems: calling it runs all of them on the same memory again.

    `outputs` is what a call returns, a dict for each problem; `launches` says how many kernels that launches.
    """

    __slots__ = ("_launcher", "kernel", "launches", "outputs")

    def __init__(self, kernel: Owner, outputs: list[dict[str, Output]], launcher: Launcher, launches: int) -> None:
        self.kernel = kernel
        self.outputs = outputs
        self.launches = launches
        self._launcher = launcher

    def __reduce__(self) -> tuple[object, ...]:
        """A copy would run on the same memory, and a pickled one on none."""
        raise DeviceError(
            f"a bound list of {self.kernel.name} cannot be copied or pickled: it is tied to its memory",
            code="FP6122",
            help="copy or pickle the kernel, and bind the list again",
        )

    def __repr__(self) -> str:
        return f"<fp4rt list of {len(self.outputs)} calls of {self.kernel.name} on {self.kernel.device}>"

    def __call__(self, stream: object | None = None) -> list[dict[str, Output]]:
        """Run once more; `stream` overrides the one given to `bind_many`."""
        self._launcher(stream)
        return self.outputs


def bind_many(kernel: Owner, problems: object, out: object, stream: object | None, *, again: bool) -> BoundMany:
    """Check and pack a list of problems. `again`: it is to be run many times. Errors name the problem by its number."""
    given = _problems(kernel, problems, out)
    found: list[tuple[Call, Resolved]] = []
    for number, (args, outputs) in enumerate(given):
        try:
            found.append(kernel.call(args, outputs, stream))
        except RuntimeFault as error:
            if _elsewhere(kernel, error, given):
                return bind_many(kernel.on_host(), problems, out, None, again=again)
            raise of_problem(number, error) from error
    outputs = [call.outputs for call, _ in found]
    if not found:
        return BoundMany(kernel, outputs, _nothing, 0)
    check_places([call for call, _ in found])
    executable: Any = kernel.executable
    if not getattr(executable, "launches", True):
        launchers = [executable.bind(call, plan, stream) for call, plan in found]
        return BoundMany(kernel, outputs, _loop(launchers), 0)
    _check_compiled(kernel, [plan for _, plan in found])
    if not hasattr(executable, "bind_many"):
        raise DeviceError(
            f"{kernel.device} runs no lists of problems",
            code="FP6320",
            help="call the kernel on each problem, or use device='cuda', 'emulator' or 'reference'",
        )
    launcher = executable.bind_many(found, stream, again=again)
    return BoundMany(kernel, outputs, launcher, launcher.launches)


def of_problem(number: int, error: E) -> E:
    """The same error with the number of its problem."""
    named = copy(error)
    named.message = f"problem {number}: {error.message}"
    named.args = (f"{named.code}: {named.message}" + (f"\n  help: {named.help}" if named.help else ""),)
    return named


def check_places(calls: Sequence[Call]) -> None:
    """ArgumentError FP6323 for arrays of two kinds, FP6322 where a buffer that a problem writes shares memory with one
    of another problem: nobody says which of them runs first."""
    for number, call in enumerate(calls):
        if call.family != calls[0].family:
            raise ArgumentError(
                f"problem {number} has {call.family} arrays, problem 0 {calls[0].family} arrays",
                code="FP6323",
                help="pass numpy arrays in all problems of a list, or torch tensors in all",
            )
    spans = sorted(
        (v.address, v.address + v.nbytes, name in call.written, number, name)
        for number, call in enumerate(calls)
        for name, v in call.parts.items()
        if v.nbytes
    )
    reached: tuple[int, int, str] = (0, 0, "")  # of all before: the furthest end, and whose it is
    written: tuple[int, int, str] = (0, 0, "")  # of those that are written
    for start, end, writes, number, name in spans:
        before = reached if writes else written
        if start < before[0]:
            raise ArgumentError(
                f"problem {number}: {name!r} shares memory with {before[2]!r} of problem {before[1]}, and one of them "
                "is written",
                argument=name.partition(".")[0],
                code="FP6322",
                help="problems of a list run at the same time: give each output its own memory, or call them in turn",
            )
        reached = max(reached, (end, number, name))
        written = max(written, (end, number, name)) if writes else written


def _problems(kernel: Owner, problems: object, out: object) -> list[tuple[Mapping[str, object], Any]]:
    """The arguments by name and the outputs of each problem. Raises ArgumentError FP6321."""
    if not isinstance(problems, (list, tuple)):
        raise _malformed(f"the problems are a list, not {type(problems).__name__}")
    items = cast("Sequence[object]", problems)
    if out is not None and (not isinstance(out, (list, tuple)) or len(cast("Sequence[object]", out)) != len(items)):
        raise _malformed(f"out is a list of {len(items)} dicts, one for each problem, or None")
    outs = [None] * len(items) if out is None else cast("Sequence[object]", out)
    names = [a.name for a in kernel.manifest.kernel.args if a.direction != "out"]
    found: list[tuple[Mapping[str, object], Any]] = []
    for number, (item, given) in enumerate(zip(items, outs, strict=True)):
        if isinstance(item, Mapping):
            args = dict(cast("Mapping[str, object]", item))
            own = args.pop("out", None) if "out" not in names else None
            if own is not None and given is not None:
                raise _malformed(f"problem {number} has outputs in its dict and in out")
            given = own if given is None else given
        elif isinstance(item, (list, tuple)):
            values = cast("Sequence[object]", item)
            if len(values) > len(names):
                raise _malformed(f"problem {number} has {len(values)} values for {', '.join(names) or 'no arguments'}")
            args = dict(zip(names, values, strict=False))
        else:
            raise _malformed(f"problem {number} is {type(item).__name__}: expected a dict of arguments, or a tuple")
        found.append((args, given))
    return found


def _malformed(message: str) -> ArgumentError:
    return ArgumentError(message, code="FP6321", help="kernel.many([{'a': a0, 'b': b0}, {'a': a1, 'b': b1}])")


def _elsewhere(kernel: Owner, error: RuntimeFault, given: Sequence[tuple[Mapping[str, object], Any]]) -> bool:
    """Whether a kernel on a GPU got tensors on the CPU, all of them: they are run there, as by a call."""
    on_gpu = kernel.executable.memory is not None
    return on_gpu and error.code == "FP6109" and all(arrays.all_on_host(args.values()) for args, _ in given)


def _check_compiled(kernel: Owner, plans: Sequence[Resolved]) -> None:
    """DeviceError FP6320 for a plan that was not compiled for lists."""
    if any(not launch.over_list for plan in plans for launch in plan.launches):
        raise DeviceError(
            f"{kernel.name} was not compiled for lists of problems",
            code="FP6320",
            help="fp4cc compile SPEC --many, or fp4cc.compile(spec, many=True); or call it on each problem",
        )


def _nothing(_stream: object | None) -> None:
    """What an empty list runs."""


def _loop(launchers: Sequence[Launcher]) -> Launcher:
    """One call after the other."""

    def run(stream: object | None) -> None:
        for launcher in launchers:
            launcher(stream)

    return run
