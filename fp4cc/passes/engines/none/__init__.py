"""Kernels without a product."""
