"""What all tests share: one BLAS thread, a cache of their own, golden files, and GPU tests only where there is one."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: the emulator's products are small

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("fp4cc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fp4cc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what is produced now")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked `fuzz` is slow too, so that leaving out the slow tests leaves it out."""
    for item in items:
        if item.get_closest_marker("fuzz") is not None:
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Collected tests live to the end: looking through them for garbage again and again takes some 8 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)


@pytest.fixture(scope="session", autouse=True)
def _one_compiling_process() -> Iterator[None]:
    """Tests compile hundreds of kernels: the CuTe DSL is imported once for all of them, when the first one needs it."""
    from fp4cc.backend import kept_worker

    with kept_worker():
        yield


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither read nor fill the user's cache; the processes of a run share one."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    os.environ["FP4CC_CACHE_DIR"] = str(shared / "fp4cc-cache")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: the file holds this text; with --update-golden it is written instead."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: run pytest --update-golden and read it"
        assert text == path.read_text(encoding="utf-8"), f"{path} differs: pytest --update-golden, then read the diff"

    return check
