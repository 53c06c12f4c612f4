"""One run of a kernel against the reference: what `run`, `verify` and the tests do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fp4rt import Comparison, Kernel


@dataclass(frozen=True, slots=True)
class Trial:
    """A run's sizes, outputs, seconds on the device and on the reference, and the comparison of each output buffer."""

    device: str
    dims: Mapping[str, int]
    outputs: Mapping[str, Any]
    device_seconds: float
    reference_seconds: float
    comparisons: tuple[Comparison, ...]

    @property
    def equal(self) -> bool:
        """Whether every output is what the reference says, or as near as the order of its sums allows."""
        return all(c.equal for c in self.comparisons)

    @property
    def identical(self) -> bool:
        """Whether every output is what the reference says, bit for bit."""
        return self.equal and not any(c.within for c in self.comparisons)


def run_trial(
    kernel: Kernel,
    reference: Kernel,
    inputs: Mapping[str, Any],
    dims: Mapping[str, int],
    *,
    bounded: bool = False,
) -> Trial:
    """Run a kernel and the reference on equal inputs and compare every output buffer.

    With `bounded`, inputs may be any: outputs may differ as far as the order of inexact sums allows, as those may whose
    parts are added in any order. `inout` arguments are written in place, so each run gets copies of its own.
    """
    from fp4rt.bounded import compare_within_bounds
    from fp4rt.compare import compare_outputs
    from fp4rt.unordered import unordered_outputs

    before = masked_outputs(reference, inputs)
    started = time.perf_counter()
    found = kernel(**_copies(kernel, inputs), **filled(before))
    device_seconds = time.perf_counter() - started
    started = time.perf_counter()
    expected = reference(**_copies(kernel, inputs), **filled(before))
    reference_seconds = time.perf_counter() - started
    typed = kernel.manifest.kernel
    loose = unordered_outputs(kernel.manifest)
    if bounded or loose:
        comparisons = compare_within_bounds(typed, found, expected, inputs, loose)
    else:
        comparisons = compare_outputs(typed, found, expected)
    return Trial(
        kernel.device,
        dict(dims),
        found,
        device_seconds,
        reference_seconds,
        tuple(comparisons),
    )


def run_alone(reference: Kernel, inputs: Mapping[str, Any], dims: Mapping[str, int]) -> Trial:
    """Run the reference, which there is nothing to compare with: a trial without comparisons."""
    started = time.perf_counter()
    outputs = reference(**_copies(reference, inputs))
    seconds = time.perf_counter() - started
    return Trial(reference.device, dict(dims), outputs, seconds, seconds, ())


def masked_outputs(reference: Kernel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of which some rows are not to be written, in memory of their own."""
    kernel = reference.manifest.kernel
    masked = {arg.name for arg in kernel.args if arg.direction == "out" and any(axis.upto for axis in arg.axes)}
    if not masked or any(arg.name == "out" for arg in kernel.args):
        return {}
    return {name: value for name, value in reference(**_copies(reference, inputs)).items() if name in masked}


def filled(outputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Memory for these outputs with a pattern in it, which shows what is written: an argument of a call."""
    if not outputs:
        return {}
    from dataclasses import replace

    import numpy as np

    from fp4num import Quantized

    def filled(array: Any) -> Any:
        return np.full(array.nbytes, 0xA5, np.uint8).view(array.dtype).reshape(array.shape)

    return {"out": {
        name: replace(value, codes=filled(value.codes), scales=filled(value.scales))
        if isinstance(value, Quantized) else filled(value)
        for name, value in outputs.items()
    }}  # fmt: skip


def _copies(kernel: Kernel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    written = {arg.name for arg in kernel.manifest.kernel.args if arg.direction == "inout"}
    return {name: value.copy() if name in written else value for name, value in inputs.items()}
