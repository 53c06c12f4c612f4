"""Compile a spec, run its PTX on the emulator, compare with the reference: what every test here does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import pytest

import fp4cc
from fp4cc.driver.trial import run_trial
from fp4rt import Artifact, random_inputs
from fp4rt.devices.emulator import EmulatorDevice

Check = Callable[..., None]


@cache
def _compiled(text: str) -> Artifact:
    return fp4cc.compile(text, target="sm_100a")


@pytest.fixture(scope="session")
def check() -> Check:
    """`check(text, M=.., N=.., ...)`: the emulated kernel's outputs are the reference's, bit for bit.

    `sms` bounds the persistent grid (few SMs: many tiles for each cluster); `mode` and `seed` say when asynchronous
    operations complete.
    """

    def run(
        text: str, *, sms: int = 148, mode: Literal["immediate", "delayed"] = "immediate", seed: int = 0, **dims: int
    ) -> None:
        artifact = _compiled(text)
        kernel = artifact.load_kernel(EmulatorDevice(mode=mode, seed=seed, sms=sms))
        inputs = random_inputs(artifact.manifest, dims, seed=seed)
        trial = run_trial(kernel, artifact.load_kernel("reference"), inputs, dims)
        assert trial.equal, trial.comparisons

    return run
