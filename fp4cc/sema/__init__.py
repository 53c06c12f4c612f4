"""The checker: names, types and axes; from the untyped tree to the typed kernel."""

from fp4cc.sema.check import Checked, analyze, check, prelude_scope
from fp4cc.sema.specialize import specialize

__all__ = ["Checked", "analyze", "check", "prelude_scope", "specialize"]
