"""The text of kernels for Blackwell's tensor core."""
