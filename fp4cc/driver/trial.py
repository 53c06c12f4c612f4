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
        """Whether every output is what the reference says."""
        return all(c.equal for c in self.comparisons)


def run_trial(kernel: Kernel, reference: Kernel, inputs: Mapping[str, Any], dims: Mapping[str, int]) -> Trial:
    """Run a kernel and the reference on equal inputs and compare every output buffer.

    `inout` arguments are written in place, so each of the two runs gets copies of its own.
    """
    from fp4rt.compare import compare_outputs

    started = time.perf_counter()
    found = kernel(**_copies(kernel, inputs))
    device_seconds = time.perf_counter() - started
    started = time.perf_counter()
    expected = reference(**_copies(kernel, inputs))
    reference_seconds = time.perf_counter() - started
    return Trial(
        kernel.device,
        dict(dims),
        found,
        device_seconds,
        reference_seconds,
        tuple(compare_outputs(kernel.manifest, found, expected)),
    )


def _copies(kernel: Kernel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    written = {arg.name for arg in kernel.manifest.kernel.args if arg.direction == "inout"}
    return {name: value.copy() if name in written else value for name, value in inputs.items()}
