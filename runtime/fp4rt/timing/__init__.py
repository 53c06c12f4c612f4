"""What the time of a kernel is made of: one file of parameters, which estimates and traces both read."""

from __future__ import annotations

from fp4rt.timing.parameters import Parameter, parameters, values

__all__ = ["Parameter", "parameters", "values"]
