"""The text of an epilogue, from its plan."""
