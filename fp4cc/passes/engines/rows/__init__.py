"""Weights that are made ready once: what makes rows of e5m2 of them, with a factor each."""
