"""A bare machine to try instruction models on, and the data that other tools or chips produced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp4emu.asynchronous import AsyncQueue
from fp4emu.instruction import Instruction
from fp4emu.isa import load_families
from fp4emu.machine import Cluster, Cta, Machine
from fp4emu.memory import SHARED_RESERVED, GlobalMemory, SharedMemory, TensorMemory
from fp4emu.registry import find_rule

HERE = Path(__file__).parent
SHARED_BYTES = SHARED_RESERVED + (227 << 10)


@pytest.fixture(scope="session")
def data() -> Callable[[str], dict[str, Any]]:
    """`data("hopper_tma")` reads hopper_tma.json."""
    return lambda name: json.loads((HERE / f"{name}.json").read_text())


@pytest.fixture
def cluster() -> Callable[..., Cluster]:
    """`cluster(ctas, target)`: a cluster of empty CTAs."""

    def build(ctas: int = 1, target: str = "sm_100a") -> Cluster:
        found = Cluster(Machine(target, GlobalMemory(), AsyncQueue()), (0, 0, 0))
        for rank in range(ctas):
            shared = SharedMemory(
                rank, SHARED_BYTES, np.zeros(SHARED_BYTES, np.uint8), np.zeros(SHARED_BYTES, np.uint8)
            )
            found.ctas.append(Cta(found, (rank, 0, 0), rank, shared, TensorMemory()))
        return found

    return build


@pytest.fixture
def instruction() -> Callable[[str, str], Instruction]:
    """`instruction(name, target)`: a parsed instruction without operands."""

    def build(name: str, target: str = "sm_100a") -> Instruction:
        load_families()
        rule, mods = find_rule(name, target)
        return Instruction(name, (), None, 1, name, rule, mods)

    return build


@pytest.fixture(scope="session")
def mix() -> Callable[[int, int], np.ndarray]:
    """`mix(n, seed)`: n reproducible bytes, the formula that the recorded chips were fed with."""

    def build(count: int, seed: int) -> np.ndarray:
        index = np.arange(count, dtype=np.uint64) * np.uint64(6364136223846793005)
        index += np.uint64(seed * 1442695040888963407 % (1 << 64))
        return ((index ^ (np.uint64(seed) << np.uint64(7))) >> np.uint64(37)).astype(np.uint8)

    return build
