"""The text of products of FP8 on Hopper."""
