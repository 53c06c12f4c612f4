"""A small transformer over bytes, and the text that it learns: the Python modules of the standard library."""

from __future__ import annotations

import functools
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """22 million parameters by default."""

    layers: int = 7
    width: int = 512
    heads: int = 8
    context: int = 256


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, rows, width = x.shape
        parts = self.qkv(x).view(batch, rows, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, rows, width))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(shape.width), nn.RMSNorm(shape.width)
        self.attention = Attention(shape)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Bytes [batch, rows] to logits of the next one [batch, rows, 256]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(256, shape.width)
        self.place = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, 256, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                scale = (2 * shape.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(p, std=0.02 * scale)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def in_blocks(name: str, layer: Any) -> bool:
    """The layers that are converted: those of the blocks. Embeddings and the head stay as they are."""
    return name.startswith("blocks.")


def corpus(limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes to learn and bytes to measure by: every 20th module is kept apart. `limit`: of each, in bytes."""
    learned, measured = (torch.frombuffer(bytearray(part[:limit]), dtype=torch.uint8) for part in _modules())
    return learned, measured


@functools.cache
def _modules() -> list[bytes]:
    """The modules of the standard library, all but every 20th and these, each part one text."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in folder.rglob("*.py") if not {"site-packages", "test", "tests"} & set(p.parts))
    texts = [path.read_bytes() for path in files]
    return [b"".join(t for i, t in enumerate(texts) if (i % 20 == 7) == kept) for kept in (False, True)]


def pieces_of(text: torch.Tensor, starts: torch.Tensor, context: int) -> Any:
    """Pieces of a text beside it: what is read, and what follows each byte of it."""
    rows = text[starts[:, None] + torch.arange(context + 1, device=text.device)].long()
    return rows[:, :-1], rows[:, 1:]


def loss_of(model: nn.Module, batch: Any) -> torch.Tensor:
    """Nats a byte."""
    x, y = batch
    return functional.cross_entropy(model(x).float().flatten(0, 1), y.flatten())


@torch.no_grad()
def validation(model: nn.Module, text: torch.Tensor, context: int, device: Any, pieces: int = 64) -> float:
    """Nats a byte over the same pieces each time."""
    generator = torch.Generator().manual_seed(1)
    sizes = [min(16, pieces)] * -(-pieces // 16)
    starts = [torch.randint(len(text) - context - 1, (size,), generator=generator) for size in sizes]
    text = text.to(device)
    losses = [loss_of(model, pieces_of(text, some.to(device), context)) for some in starts]
    return float(torch.stack(losses).mean())


@torch.no_grad()
def continued(model: nn.Module, start: bytes, count: int, context: int, device: Any) -> bytes:
    """`start` and the `count` most likely bytes after it, one by one."""
    tokens = torch.tensor([list(start)], device=device)
    for _ in range(count):
        logits = model(tokens[:, -context:])[:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    return bytes(tokens[0].tolist())


def state_of(model: Transformer) -> dict[str, Any]:
    """What `restored` makes the model of."""
    return {"shape": asdict(model.shape), "weights": model.state_dict()}


def restored(state: dict[str, Any]) -> Transformer:
    model = Transformer(Shape(**state["shape"]))
    model.load_state_dict(state["weights"])
    return model
