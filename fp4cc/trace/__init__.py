"""When the parts of a kernel would do what they do: `fp4cc trace`."""
