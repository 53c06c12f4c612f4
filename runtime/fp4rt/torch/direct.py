"""An operator's eager call by name past torch's dispatcher, where the dispatcher would change nothing.

It is there for autograd, modes, transforms and tensors of other classes. Where there is none of these, a call of the
operator is one of the kernel: the quick way of `fp4rt.cuda.repeated`, with outputs of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4rt.devices.base import Quick
from fp4rt.kernel import Kernel
from fp4rt.torch.schema import Schema

_C: Any = torch._C  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
_dispatch_modes = _C._len_torch_dispatch_stack
_function_modes = _C._len_torch_function_stack
_transform = _C._functorch.peek_interpreter_stack
_tracing = _C._get_tracing_state
_profiling = torch.autograd._profiler_enabled  # pyright: ignore[reportPrivateUsage]
#: Kinds of calls that were tried to be learned, and how often each is: the first time it is only noted.
_MAX_TRIED, _TRIES = 512, 2


class Direct:
    """Calls of a kernel that writes nothing in place, on the device that it was loaded for."""

    __slots__ = ("_kernel", "_names", "_quick", "_tried")

    def __init__(self, kernel: Kernel, schema: Schema, quick: Quick) -> None:
        self._kernel = kernel
        self._quick = quick
        self._names = [s.name for s in schema.inputs]
        self._tried: dict[Any, int] = {}

    @staticmethod
    def of(kernel: Kernel, schema: Schema) -> Direct | None:
        """None for a kernel that has no quick way, or writes to an argument, of which autograd has to hear."""
        quick = None if kernel.quick is None or schema.mutated else kernel.new_quick(gradients=False)
        return None if quick is None else Direct(kernel, schema, quick)

    def __call__(self, args: Mapping[str, Any]) -> dict[str, Any] | None:
        """Queue the call and return its outputs; None where the dispatcher has to see it, and nothing was done."""
        if _dispatch_modes() or _function_modes() or _profiling() or _tracing() is not None:
            return None
        if _transform() is not None:
            return None
        return self._quick(args, None, None, None)

    def serves(self, flat: tuple[Any, ...]) -> bool:
        """Whether these tensors are such as a direct call can have."""
        memory = self._kernel.executable.memory
        first = flat[0]
        return type(first) is torch.Tensor and first.get_device() == (-1 if memory is None else memory)

    def learn(self, args: Mapping[str, Any]) -> None:
        """Remember a call that the dispatcher took and that went through its checks."""
        key = tuple([tuple(args[name].shape) for name in self._names])
        tried = self._tried.get(key, 0)
        if tried >= _TRIES:
            return
        if len(self._tried) >= _MAX_TRIED:
            self._tried.clear()
        self._tried[key] = tried + 1
        call, _ = self._kernel.checked(args)
        self._quick.learn(args, None, None, call, self._kernel.resolve(call.dims))
