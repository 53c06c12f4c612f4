"""The feeds beside TMA, one line each. To add one: its plan beside these, a line here, its text in codegen/feeds."""

from __future__ import annotations

from fp4cc.passes.feeds.converted import CONVERTED
from fp4cc.passes.feeds.dequantized import DEQUANTIZED
from fp4cc.passes.feeds.relaid import RELAID
from fp4cc.passes.feeds.spec import Feeds
from fp4cc.passes.feeds.unpacked import UNPACKED

FEEDS = Feeds([
    DEQUANTIZED,
    RELAID,
    CONVERTED,
    UNPACKED,
])  # fmt: skip
