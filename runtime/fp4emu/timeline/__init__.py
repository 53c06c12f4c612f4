"""When a recorded launch would do what it did: a discrete-event replay with latencies and rates."""

from __future__ import annotations

from fp4emu.timeline.chrome import chrome
from fp4emu.timeline.rates import Rates
from fp4emu.timeline.replay import replay
from fp4emu.timeline.result import Timeline
from fp4emu.timeline.servers import Demand

__all__ = ["Demand", "Rates", "Timeline", "chrome", "replay"]
