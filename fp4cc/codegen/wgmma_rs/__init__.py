"""The text of kernels for Hopper whose weights are multiplied from registers."""
