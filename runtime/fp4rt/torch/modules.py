"""Modules that hold quantized tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from fp4num import BlockFormat, Quantized
from fp4num.errors import DataError


def keeping_types(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What a module does to its tensors, without a change of their types: only devices change."""

    def moved(x: Any) -> Any:
        new = fn(x)
        return new if new.dtype == x.dtype else x.to(new.device)

    return moved


class QuantizedBuffer(torch.nn.Module):  # pyright: ignore[reportUntypedBaseClass]
    """A quantized tensor in a model: its arrays are buffers, so that `to`, `state_dict` and `torch.save` find them.

    `value` is the `Quantized`. Moving a model to a device moves it; converting a model to another type (`half()`)
    leaves it: its f32 scales are part of what its codes mean. A state dict has the format too, and loading one with
    another format or shape is a `DataError`.
    """

    codes: Any
    scales: Any
    tensor_scale: Any
    offsets: Any

    def __init__(self, value: Quantized) -> None:
        super().__init__()
        q = value.to(value.codes.device if isinstance(value.codes, torch.Tensor) else "cpu")
        self.format: BlockFormat = q.format
        self.shape = tuple(q.shape)
        for name in ("codes", "scales", "tensor_scale", "offsets"):
            self.register_buffer(name, getattr(q, name))

    @property
    def value(self) -> Quantized:
        """The tensor, of this module's buffers."""
        return Quantized(self.codes, self.scales, self.tensor_scale, self.format, self.shape, self.offsets)

    def forward(self) -> Quantized:
        """`value`."""
        return self.value

    def extra_repr(self) -> str:
        return f"{self.format.name}, {list(self.shape)}"

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> QuantizedBuffer:
        return super()._apply(keeping_types(fn), recurse)

    def get_extra_state(self) -> dict[str, Any]:
        """The format and shape, as plain values."""
        return {"format": self.format.to_json(), "shape": list(self.shape)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The format and shape are the module's own."""

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:
        """DataError, before anything is copied, where a state dict holds another format or shape."""
        if (state := state_dict.get(f"{prefix}_extra_state")) is not None:
            self._check(state)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _check(self, state: dict[str, Any]) -> None:
        found = BlockFormat.from_json(state["format"])
        different = self.format.mismatches(found)
        if different or tuple(state["shape"]) != self.shape:
            what = "; ".join(different) or f"the shape is {tuple(state['shape'])}"
            raise DataError(f"the state of a {self.format.name}{list(self.shape)} holds {found.name}: {what}")
