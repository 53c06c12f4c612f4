"""What is prepared for `fp4rt.tune`, and what it answers: calls with their schedules, attempts, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fp4rt.bench import Time
from fp4rt.errors import ArtifactError

WORK, RESULTS = "tune.json", "results.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Way:
    """One schedule of a call. `artifact`: the folder of what was compiled; ways that are the same kernel share one.

    `fields`: the lines of its schedule block; None for the compiler's own plan. `label`: what it is, for people.
    `model`: its seconds in the compiler's model, None where there is none.
    """

    artifact: str
    fields: tuple[str, ...] | None
    label: str
    model: float | None


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be tuned: the size of every dim that is not derived, and its schedules, the compiler's own first.

    A block for it holds where `low < dim <= high` and the dims in `others` have these sizes; `dim` is "" where all
    sizes are given in the spec.
    """

    sizes: Mapping[str, int]
    dim: str
    low: int
    high: int
    others: Mapping[str, int]
    ways: tuple[Way, ...]

    def own_of(self, way: Way, attempts: Sequence[Attempt]) -> str | None:
        """The compiler's own plan, by the folder, to take turns with this one: None for itself, or if it is wrong."""
        own = self.ways[0].artifact
        fine = any(a.artifact == own and a.time is not None and dict(a.sizes) == dict(self.sizes) for a in attempts)
        return own if fine and way.artifact != own else None


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to measure. `spec` is a hash of the typed kernel."""

    kernel: str
    target: str
    spec: str
    toolchain: Mapping[str, str]
    calls: tuple[Call, ...]

    def rounds(self) -> Iterator[list[tuple[Call, Way]]]:
        """Every call's first schedule, then every call's second, ...: whenever one stops, all calls had their turn."""
        for rank in range(max((len(call.ways) for call in self.calls), default=0)):
            yield [(call, call.ways[rank]) for call in self.calls if rank < len(call.ways)]

    def json(self) -> dict[str, object]:
        """The work for `parse_work`."""
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A schedule that was measured: seconds of a call, or what is wrong with it. `checked`: the sizes compared.

    `own`: seconds of the compiler's own plan, which took turns with it: clocks differ from one minute to the next. None
    where this is that plan, or that plan is wrong.
    """

    sizes: Mapping[str, int]
    artifact: str
    time: Time | None
    checked: Mapping[str, int] | None
    own: Time | None = None
    wrong: str = ""

    @property
    def ratio(self) -> float | None:
        """Its time by that of the compiler's own plan; None where one of them has none."""
        return None if self.time is None or self.own is None else self.time.median / self.own.median

    def json(self) -> dict[str, object]:
        """The attempt for `parse_attempt`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured where."""

    spec: str
    gpu: str
    driver: str
    date: str
    attempts: tuple[Attempt, ...]

    def json(self) -> dict[str, object]:
        """The results for `parse_results`."""
        return {"schema": SCHEMA, **asdict(self)}


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def result_text(found: Attempt) -> str:
    """`12.30 us, the compiler's own plan 13.10 us`, or what is wrong."""
    if found.time is None:
        return f"dropped: {found.wrong}"
    faster = "" if found.ratio is None else f", the compiler's own plan {1e6 * found.time.median / found.ratio:.2f} us"
    return f"{1e6 * found.time.median:.2f} us{faster}"


# Files.


def parse_work(text: str) -> Work:
    """The work in a file. ArtifactError for anything else."""
    with _strict(WORK):
        value = _of_schema(text, WORK)
        calls = [
            Call(
                _sizes(call["sizes"]),
                str(call["dim"]),
                int(call["low"]),
                int(call["high"]),
                _sizes(call["others"]),
                tuple(_way(way) for way in call["ways"]),
            )
            for call in value["calls"]
        ]
        toolchain = {str(k): str(v) for k, v in value["toolchain"].items()}
        return Work(str(value["kernel"]), str(value["target"]), str(value["spec"]), toolchain, tuple(calls))


def parse_results(text: str) -> Results:
    """The results in a file. ArtifactError for anything else."""
    with _strict(RESULTS):
        value = _of_schema(text, RESULTS)
        spec, gpu, driver, date = (str(value[key]) for key in ("spec", "gpu", "driver", "date"))
        return Results(spec, gpu, driver, date, tuple(parse_attempt(one) for one in value["attempts"]))


def parse_attempt(value: Any) -> Attempt:
    """What `Attempt.json` gave. KeyError, TypeError or ValueError for anything else."""
    seconds, own = _time(value["time"]), _time(value["own"])
    if (seconds is None) == (not value["wrong"]):
        raise ValueError("either a time or what is wrong")
    checked = None if value["checked"] is None else _sizes(value["checked"])
    return Attempt(_sizes(value["sizes"]), str(value["artifact"]), seconds, checked, own, str(value["wrong"]))


def _time(value: Any) -> Time | None:
    if value is None:
        return None
    found = Time(*(float(value[key]) for key in ("median", "low", "high")))
    if not 0 < found.median < float("inf"):
        raise ValueError("no time")
    return found


def _way(value: Any) -> Way:
    name = str(value["artifact"])
    if not name.isalnum():  # a folder beside the file
        raise ValueError(name)
    fields = None if value["fields"] is None else tuple(str(line) for line in value["fields"])
    model = None if value["model"] is None else float(value["model"])
    return Way(name, fields, str(value["label"]), model)


def _sizes(value: Any) -> dict[str, int]:
    return {str(name): int(size) for name, size in value.items()}


def _of_schema(text: str, name: str) -> Any:
    value = json.loads(text)
    if value["schema"] != SCHEMA:
        raise ArtifactError(f"{name} has schema {value['schema']!r:.60}; this version reads {SCHEMA}", code="FP6003")
    return value


class _strict:
    """Makes one error of all that a file of another shape leads to."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError | RecursionError | OverflowError):
            raise ArtifactError(
                f"{self._name} is not what `fp4cc tune` or `fp4rt.tune` writes: {type(error).__name__}: {error!s:.80}",
                help="prepare the folder again",
            ) from error


def read(folder: Path, name: str) -> str:
    """A file of the folder; ArtifactError where it is not there or no text."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        missing = "run python -m fp4rt.tune on it first" if name == RESULTS else "fp4cc tune --prepare makes one"
        raise ArtifactError(f"{folder / name} cannot be read: {error}", help=missing) from error
