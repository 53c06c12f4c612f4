"""What a kernel computes, in the terms of products: axes, halves, accumulators, what must divide what."""
