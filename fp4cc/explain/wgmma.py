"""The part of a report that is about Hopper's GEMM: its pipeline, and the roofline of the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp4cc.explain.gemm import pipeline_rows
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import traffic
from fp4cc.ir.lowered_wgmma import LoweredWgmma
from fp4cc.targets import SM90A
from fp4rt.sizes import evaluate


@dataclass(frozen=True, slots=True)
class WgmmaFigures:
    """What a call with certain sizes does. Sizes in elements, traffic in bytes with each tensor once."""

    plan: LoweredWgmma
    flop: int
    read_bytes: int
    written_bytes: int
    tiles: int

    @classmethod
    def of(cls, plan: LoweredWgmma, sizes: Mapping[str, int]) -> WgmmaFigures:
        """The figures of a call."""
        problem = plan.problem
        m, n, k, batch = (int(evaluate(e, sizes)) for e in (problem.m, problem.n, problem.k, problem.batch))
        read, written = traffic(plan.kernel, sizes)
        tiles = int(evaluate(plan.raster.tiles, sizes)) * plan.cluster.size
        return cls(plan, 2 * m * n * k * batch, read, written, tiles)

    @property
    def compute_time(self) -> float:
        """Seconds at the full bf16 rate."""
        rates = SM90A.rates
        return self.flop / (SM90A.flop_per_clock * rates.sms * rates.clock_ghz * 1e9)

    @property
    def memory_time(self) -> float:
        """Seconds at the full DRAM rate."""
        return (self.read_bytes + self.written_bytes) / SM90A.rates.dram_bytes_per_s

    def resources(self) -> list[Row]:
        """Resources beyond registers and shared memory."""
        plan = self.plan
        return [
            ("warps", "4 that dequantize, multiply and run the epilogue, 1 for TMA"),
            ("stages", f"{plan.pipeline.stages} of codes and scales, {plan.slots} of dequantized operands"),
        ]

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Titles and rows of what is particular to this family."""
        total = self.read_bytes + self.written_bytes
        cost = [
            ("FLOP", f"{self.flop:.4g}"),
            ("bytes", f"{total:.4g}: {self.read_bytes} read, {self.written_bytes} written, each tensor once"),
            ("intensity", f"{self.flop / max(1, total):.0f} FLOP a byte"),
            ("tiles", f"{self.tiles} of {self.plan.tile.m} x {self.plan.tile.n}, whole clusters counted"),
            ("waves", f"{-(-self.tiles // SM90A.rates.sms)}, with {SM90A.rates.sms} CTAs at a time"),
        ]
        bound = max(self.compute_time, self.memory_time)
        time = [
            ("roofline", f"{us(bound)}: compute {us(self.compute_time)} (bf16), DRAM {us(self.memory_time)}"),
            ("kernel", "slower than that: dequantizing takes the same warps that multiply"),
        ]
        return [("pipeline", pipeline_rows(self.plan.pipeline)), ("cost", cost), ("time, estimated", time)]

    def resources_json(self) -> dict[str, object]:
        """Resources beyond registers and shared memory, for machines."""
        plan = self.plan
        return {"cluster": [plan.cluster.m, plan.cluster.n], "stages": plan.pipeline.stages, "slots": plan.slots}

    def json(self) -> dict[str, object]:
        """Work and time, for machines."""
        return {
            "work": {"flop": self.flop, "read_bytes": self.read_bytes, "written_bytes": self.written_bytes},
            "estimate": {"compute_time": self.compute_time, "memory_time": self.memory_time},
        }
