"""Compiling schedules and measuring them, round by round, with what earlier runs remember."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from fp4cc.cache import Store, digest
from fp4cc.cache.keys import Json
from fp4cc.driver import artifact_of
from fp4cc.driver.build import BuiltKernel, put_entry
from fp4rt.artifact import Artifact
from fp4rt.sizes import sizes_text
from fp4rt.tune import Clock
from fp4rt.tuning import Attempt, Call, Way, Work, parse_attempt

#: Compiles schedules by the name of their folder.
Build = Callable[[Sequence[str]], Mapping[str, BuiltKernel]]
#: Told what is done, how much of it is done and how much there is.
Report = Callable[[str, int, int], None]


class Measures(Protocol):
    """`fp4rt.tune.Tuner`."""

    def attempt(self, name: str, artifact: Artifact, sizes: Mapping[str, int], own: Artifact | None = None) -> Attempt:
        """Compare a call with the reference and time it, in turns with the compiler's own plan."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """What was measured before, in the cache folder: by what was compiled (which has the typed kernel and the toolchain
    in its manifest), sizes, GPU and driver. Without a store nothing is remembered."""

    store: Store | None
    gpu: str
    driver: str

    def get(self, kernel: BuiltKernel, own: BuiltKernel | None, name: str, sizes: Mapping[str, int]) -> Attempt | None:
        """The attempt of an earlier run, under this one's name."""
        entry = None if self.store is None else self.store.get(self._key(kernel, own, sizes))
        if entry is None:
            return None
        try:
            return parse_attempt({**entry.info, "artifact": name})
        except (KeyError, TypeError, ValueError, AttributeError):  # another version wrote it
            return None

    def put(self, kernel: BuiltKernel, own: BuiltKernel | None, found: Attempt) -> None:
        """Remember an attempt; one that failed is tried again."""
        if self.store is not None and found.time is not None:
            info = cast("dict[str, Json]", {**found.json(), "artifact": ""})
            put_entry(self.store, self._key(kernel, own, found.sizes), {}, info)

    def _key(self, kernel: BuiltKernel, own: BuiltKernel | None, sizes: Mapping[str, int]) -> str:
        made: list[Json] = [_hash(kernel), None if own is None else _hash(own)]
        return digest({"tuned": made, "sizes": dict(sizes), "gpu": self.gpu, "driver": self.driver})


def _hash(kernel: BuiltKernel) -> str:
    return hashlib.sha256(kernel.files[f"{kernel.name}.json"]).hexdigest()


@dataclass
class Search:
    """Measures the schedules of all calls. `attempts` are kept whatever ends it."""

    work: Work
    build: Build
    measures: Measures
    memory: Memory
    clock: Clock
    report: Report
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    remembered: int = 0
    _built: dict[str, BuiltKernel] = field(default_factory=dict[str, BuiltKernel])

    def run(self) -> bool:
        """Whether all were measured before time was up.

        A round has one schedule of each call, the best in the model first, so that all calls had their turn whenever
        time is up. RuntimeFault where nothing can be measured here.
        """
        total = sum(len(call.ways) for call in self.work.calls)
        for turn in self.work.rounds():
            if self.clock.over:
                return False
            self.report(f"compiling {len(turn)} schedules", len(self.attempts), total)
            self._built |= self.build([n for n in dict.fromkeys(w.artifact for _, w in turn) if n not in self._built])
            for call, way in turn:
                if self.clock.over:
                    return False
                self.report(f"{sizes_text(call.sizes)}: {way.label}", len(self.attempts), total)
                self._measure(call, way)
        return True

    def _measure(self, call: Call, way: Way) -> None:
        beside = call.own_of(way, self.attempts)
        kernel, own = self._built[way.artifact], None if beside is None else self._built[beside]
        found = self.memory.get(kernel, own, way.artifact, call.sizes)
        if found is None:
            artifacts = artifact_of(kernel), None if own is None else artifact_of(own)
            found = self.measures.attempt(way.artifact, artifacts[0], call.sizes, artifacts[1])
            self.memory.put(kernel, own, found)
        else:
            self.remembered += 1
        self.attempts.append(found)
