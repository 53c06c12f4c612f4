"""FP8 multiplied as it is, where a kernel takes sums of fewer bits."""
