"""Which products of a kernel are added to one another, so that a kernel may keep them in one accumulator."""

from __future__ import annotations

from fp4rt.typed import TypedKernel


def sums(kernel: TypedKernel) -> list[list[int]]:
    """The products, alone and those that are added to one another together."""
    parts: dict[int, list[int]] = {}  # of each sum, and of each product alone
    for index, value in enumerate(kernel.values):
        if value.op == "matmul":
            parts[index] = [index]
        elif value.op == "add" and all(operand in parts for operand in value.operands):
            parts[index] = [product for operand in value.operands for product in parts[operand]]
    return list(parts.values())


def joined_products(kernel: TypedKernel) -> dict[int, list[int]]:
    """For each product, those that it can share an accumulator with, itself included."""
    longest: dict[int, list[int]] = {}
    for group in sums(kernel):
        for product in group:
            if len(group) >= len(longest.get(product, ())):
                longest[product] = group
    return longest
