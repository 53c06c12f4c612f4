"""The part of a report about GEMMs without a timing model: their pipeline, and the roofline of the sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fp4cc.explain.closed import launch_seconds
from fp4cc.explain.gemm import in_parts, pipeline_rows, tensor_memory, warps
from fp4cc.explain.rows import Row, us
from fp4cc.explain.work import traffic
from fp4cc.ir.lowered import LoweredKernel
from fp4cc.passes.choice.facts import Facts
from fp4cc.passes.engines.registry import ENGINES
from fp4cc.targets import CHIPS, Rates
from fp4rt.sizes import evaluate


@dataclass(frozen=True, slots=True)
class TileFigures:
    """What a call with certain sizes does. Sizes in elements, traffic in bytes with each tensor once.

    A CTA makes one of `parts` of K of a tile.
    """

    plan: LoweredKernel
    flop: int
    read_bytes: int
    written_bytes: int
    tiles: int
    sizes: Mapping[str, int]
    parts: int = 1

    @classmethod
    def of(cls, plan: LoweredKernel, sizes: Mapping[str, int]) -> TileFigures:
        """The figures of a call."""
        problem = plan.products
        m, n, batch = (int(evaluate(e, sizes)) for e in (problem.m, problem.n, problem.batch))
        k = sum(int(evaluate(product.k, sizes)) for product in problem.products)
        read, written = traffic(plan.kernel, sizes)
        parts = 1 if plan.split is None else int(evaluate(plan.split.parts, sizes))
        tiles = int(evaluate(plan.walk.tiles, sizes)) * plan.cluster.size // parts
        shared = max(1, int(evaluate(problem.shared_k, sizes)))
        return cls(plan, 2 * m * n * k * batch // shared, read, written, tiles, sizes, parts)

    @property
    def facts(self) -> Facts:
        """What its engine says of it."""
        return ENGINES.facts(self.plan)

    @property
    def rates(self) -> Rates:
        """The chip's rates."""
        return CHIPS[self.plan.target].rates

    @property
    def compute_time(self) -> float:
        """Seconds at the full rate of the tensor cores; 0 for an engine whose rate is not known."""
        clock = self.facts.flop_per_clock
        return self.flop / (clock * self.rates.sms * self.rates.clock_ghz * 1e9) if clock else 0.0

    @property
    def memory_time(self) -> float:
        """Seconds at the full DRAM rate."""
        return (self.read_bytes + self.written_bytes) / self.rates.dram_bytes_per_s

    @property
    def roofline_time(self) -> float:
        """Seconds at best."""
        return max(self.compute_time, self.memory_time)

    def resources(self) -> list[Row]:
        """Resources beyond registers and shared memory."""
        plan, rows = self.plan, [("warps", warps(self.plan))]
        if plan.pipeline is not None:
            rows.append(("stages", f"{plan.pipeline.stages} of operands{self.facts.stages}"))
        if self.facts.tensor_memory is not None:
            rows.append(("tensor memory", self.facts.tensor_memory[2]))
        return rows

    def sections(self) -> list[tuple[str, list[Row]]]:
        """Titles and rows of what is particular to a product."""
        total, tile = self.read_bytes + self.written_bytes, self.plan.tile
        cost = [
            ("FLOP", f"{self.flop:.4g}"),
            ("bytes", f"{total:.4g}: {self.read_bytes} read, {self.written_bytes} written, each tensor once"),
            ("intensity", f"{self.flop / max(1, total):.0f} FLOP a byte"),
            ("tiles", f"{self.tiles} of {tile.m} x {tile.n}, whole clusters counted{in_parts(self.parts)}"),
            ("waves", f"{-(-self.tiles * self.parts // self.rates.sms)}, with {self.rates.sms} CTAs at a time"),
        ]
        compute = f"compute {us(self.compute_time)}" if self.compute_time else "compute not known"
        time = [
            ("roofline", f"{us(self.roofline_time)}: {compute}, DRAM {us(self.memory_time)}"),
            ("kernel", self._kernel),
        ]
        rings = pipeline_rows(self.plan)
        return [*([("pipeline", rings)] if rings else []), ("cost", cost), ("time, estimated", time)]

    @property
    def time(self) -> float | None:
        """Seconds by the closed form; None where there is none."""
        return None if self.plan.clocks is None else launch_seconds(self.plan, self.sizes)

    @property
    def _kernel(self) -> str:
        if self.time is None:
            return f"slower than that: {self._why}"
        return f"{us(self.time)}, {self.roofline_time / self.time:.0%} of the roofline: {self._why}"

    @property
    def _why(self) -> str:
        name = self.plan.engine.name if self.plan.engine is not None else None
        return self.facts.slower or f"there is no model of the engine {name}"

    def resources_json(self) -> dict[str, object]:
        """Resources beyond registers and shared memory, for machines."""
        plan = self.plan
        found: dict[str, object] = {"cluster": [plan.cluster.m, plan.cluster.n]}
        if plan.pipeline is not None:
            found["stages"] = plan.pipeline.stages
        if self.facts.tensor_memory is not None:
            found["tensor_memory"] = tensor_memory(self.facts.tensor_memory)
        return found

    def json(self) -> dict[str, object]:
        """Work and time, for machines."""
        return {
            "work": {"flop": self.flop, "read_bytes": self.read_bytes, "written_bytes": self.written_bytes},
            "estimate": {
                "compute_time": self.compute_time,
                "memory_time": self.memory_time,
                **({} if self.time is None else {"time": self.time}),
            },
        }
