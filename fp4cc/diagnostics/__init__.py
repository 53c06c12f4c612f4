"""Diagnostics: what is wrong, where, why, and the nearest thing that works."""

from fp4cc.diagnostics.codes import CODES, Code
from fp4cc.diagnostics.collector import Collector, DiagnosticError
from fp4cc.diagnostics.core import Diagnostic, Label, error
from fp4cc.diagnostics.render import render, to_json
from fp4cc.diagnostics.suggest import did_you_mean, listed

__all__ = [
    "CODES",
    "Code",
    "Collector",
    "Diagnostic",
    "DiagnosticError",
    "Label",
    "did_you_mean",
    "error",
    "listed",
    "render",
    "to_json",
]
