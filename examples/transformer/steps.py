"""One step of training, as eager code on the CPU and as one CUDA graph on a GPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from model import loss_of, pieces_of


class Steps:
    """The steps of a model: what they read and change stays in the same memory, so that a GPU can run them as a graph.

    On a GPU an eager step of small layers waits for Python, which queues some thousand kernels; a graph is one call.
    """

    def __init__(self, model: Any, text: torch.Tensor, options: Any, device: torch.device) -> None:
        self._model, self._options, self._device = model, options, device
        self._text = text.to(device)
        graph = device.type == "cuda" and not options.eager
        rate = torch.tensor(options.rate, device=device) if graph else options.rate
        self.optimizer = torch.optim.AdamW(
            model.parameters(), rate, (0.9, 0.95), weight_decay=0.1, fused=graph, capturable=graph
        )
        self._starts = torch.zeros(options.batch, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), device=device)
        self._graph: Any = None
        self._use_graph = graph

    def load(self, state: dict[str, Any]) -> None:
        """The optimizer's state of a checkpoint, before the first step; it may have been saved on another device."""
        own = self.optimizer.state_dict()["param_groups"]
        kept = ("lr", "fused", "capturable", "foreach")
        groups = [
            {**group, **{name: mine[name] for name in kept}}
            for group, mine in zip(state["param_groups"], own, strict=True)
        ]
        self.optimizer.load_state_dict({**state, "param_groups": groups})

    def run(self, step: int, rate: float) -> torch.Tensor:
        """Step number `step`; the loss before it, on the device. Nothing waits on a GPU."""
        seed = self._options.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        room = len(self._text) - self._options.context - 1
        if self._use_graph and self._graph is None:
            self._capture()
        self._starts.copy_(torch.randint(room, (self._options.batch,), generator=generator))
        for group in self.optimizer.param_groups:
            if self._use_graph:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        torch.manual_seed(seed)  # of the rounding: the same in a run that was interrupted
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
        return self._loss.clone()

    def _gradients(self) -> None:
        """The loss of the pieces at `_starts`, and new gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        batch = pieces_of(self._text, self._starts, self._options.context)
        # Within a graph a copy of a weight in bf16 must not outlive the step.
        with torch.autocast(self._device.type, dtype=torch.bfloat16, cache_enabled=not self._use_graph):
            loss = loss_of(self._model, batch)
        loss.backward()
        self._loss.copy_(loss.detach())

    def _step(self) -> None:
        self._gradients()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self.optimizer.step()

    def _capture(self) -> None:
        """Make the graph. Before it, kernels are loaded and the optimizer's state gets its memory; both stay as new."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._gradients()
            if not self.optimizer.state:
                for p in self._model.parameters():
                    p.grad = torch.zeros_like(p)
                for group in self.optimizer.param_groups:
                    group["lr"].fill_(0.0)
                self.optimizer.step()
                for state in self.optimizer.state.values():
                    for value in state.values():
                        value.zero_()
            self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Up in a line, down along a cosine to nothing."""
    if step < warmup:
        return peak * (step + 1) / warmup
    way = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * way))
