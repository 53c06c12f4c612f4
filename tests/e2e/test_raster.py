"""The order of tiles that a block asks for on Hopper: every tile once, whatever the band, also with parts of K."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .test_split_k import product, weights

Check = Callable[..., None]

ORDERS = ("along_m", "along_n", "2", "3")


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("parts", ["1", "2"])
def test_weights_in_registers(check: Check, order: str, parts: str) -> None:
    check(weights("plain", "128 x 64 x 64", f"{parts}; raster {order}"), target="sm_90a", M=300, N=456, K=256)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cluster", ["1 x 1", "2 x 1"])
def test_converted_operands(check: Check, order: str, cluster: str) -> None:
    check(product("blocks", f"2; raster {order}", cluster), target="sm_90a", M=300, N=456, K=256)
