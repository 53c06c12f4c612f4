"""The part of a report that is about a kernel without a product: bytes, and the time memory takes for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp4cc.explain.closed import launch_seconds
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import traffic
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.targets import CHIPS
from fp4rt.sizes import evaluate


@dataclass(frozen=True, slots=True)
class ElementwiseFigures:
    """What a call with certain sizes does and costs: bytes, tiles, seconds."""

    read_bytes: int
    written_bytes: int
    tiles: int
    memory_time: float
    time: float

    @classmethod
    def of(cls, plan: LoweredKernel, sizes: Mapping[str, int]) -> ElementwiseFigures:
        """The figures of a call."""
        rates = CHIPS[plan.target].rates
        read, written = traffic(plan.kernel, sizes)
        memory = (read + written) / rates.dram_bytes_per_s
        tiles = int(evaluate(plan.walk.tiles, sizes))
        return cls(read, written, tiles, memory, launch_seconds(plan, sizes) or 0.0)

    @property
    def roofline_time(self) -> float:
        """Seconds at best."""
        return self.memory_time

    def resources(self) -> list[Row]:
        """Nothing beyond registers and shared memory."""
        return []

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Titles and rows of the cost and the time."""
        total = self.read_bytes + self.written_bytes
        cost = [
            ("bytes", f"{total:.4g}: {self.read_bytes} read, {self.written_bytes} written, each tensor once"),
            ("tiles", str(self.tiles)),
        ]
        time = [
            ("roofline", f"{us(self.memory_time)}: DRAM"),
            ("kernel", f"{us(self.time)} with launch and latency"),
        ]
        return [("cost", cost), ("time, estimated", time)]

    def resources_json(self) -> dict[str, object]:
        """Nothing beyond registers and shared memory."""
        return {}

    def json(self) -> dict[str, object]:
        """Work and time, for machines."""
        return {
            "work": {"read_bytes": self.read_bytes, "written_bytes": self.written_bytes, "tiles": self.tiles},
            "estimate": {"memory_time": self.memory_time, "time": self.time},
        }
