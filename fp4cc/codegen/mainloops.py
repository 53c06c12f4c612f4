"""Mainloops in text: how they are told apart."""

from __future__ import annotations

from fp4cc.ir.lowered import LoweredKernel, Mainloop


def numbered(index: int) -> str:
    """What follows a name of which there may be several: nothing the first time, then 2, 3, ..."""
    return str(index + 1) if index else ""


def products_in_words(lowered: LoweredKernel, mainloop: Mainloop) -> str | None:
    """The products of a mainloop in words, where there are several."""
    if len(lowered.products.products) == 1:
        return None
    return f"{mainloop.products[0].a.arg} times {' and '.join(product.b.title for product in mainloop.products)}"
