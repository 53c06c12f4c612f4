"""The kernels of a recipe as operators, loaded once for all layers of a model."""

from __future__ import annotations

from typing import Any

from fp4rt import supply
from fp4rt.kernel import Kernel
from fp4rt.recipes import Recipe
from fp4rt.torch.linear import operator_of
from fp4rt.torch.operators import Operator


class RecipeKernels:
    """Loads kernels of a recipe for the device of a weight, each when it is first asked for."""

    def __init__(self, recipe: Recipe, device: str | None, target: str | None, artifacts: supply.Source) -> None:
        self.recipe = recipe
        self._device, self._target = device, target
        self._supply = supply.supplier(artifacts)
        self._loaded: dict[tuple[str, str, str | None], Operator] = {}

    def of(self, role: str, tensor: Any) -> Operator | None:
        """The kernel of a role for tensors beside this one; None where the recipe has none."""
        name = self.recipe.kernels.get(role)
        if name is None:
            return None
        device, target = supply.device_and_target(self._device, str(tensor.device), self._target)
        key = (name, device, target)
        if key not in self._loaded:
            file, _, kernel = name.partition("/")
            self._loaded[key] = operator_of(Kernel(self._supply(file, kernel, target), device))
        return self._loaded[key]

    def all_of(self, tensor: Any) -> dict[str, Operator]:
        """Every kernel of the recipe, by role."""
        found = {role: self.of(role, tensor) for role in self.recipe.kernels}
        return {role: operator for role, operator in found.items() if operator is not None}
