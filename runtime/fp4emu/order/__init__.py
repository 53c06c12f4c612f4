"""Happens-before: proves that the accesses of a run are ordered (docs/emulator.md, "Order")."""
