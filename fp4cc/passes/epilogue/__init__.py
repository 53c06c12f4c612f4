"""The plan of an epilogue: what it reads, what is computed how often, and how each output reaches memory."""
