"""The text of kernels for Hopper."""
