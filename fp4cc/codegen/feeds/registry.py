"""The text halves of feeds, one line each."""

from __future__ import annotations

from fp4cc.codegen.feeds.converted import CONVERTED
from fp4cc.codegen.feeds.dequantized import DEQUANTIZED
from fp4cc.codegen.feeds.relaid import RELAID
from fp4cc.codegen.feeds.spec import FeedTexts
from fp4cc.codegen.feeds.unpacked import UNPACKED

FEED_TEXTS = FeedTexts([
    DEQUANTIZED,
    RELAID,
    CONVERTED,
    UNPACKED,
])  # fmt: skip
