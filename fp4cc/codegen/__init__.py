"""From a lowered kernel to text: the kernel file in Python, and the manifest."""
