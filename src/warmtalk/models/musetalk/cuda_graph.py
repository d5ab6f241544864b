"""Work of fixed shapes, recorded once on a GPU and replayed: nine hundred kernels start with one call, not one by one.

Elsewhere the same work is simply done again, so that both ways run the same code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Work = Callable[..., tuple[torch.Tensor, ...]]
_WARM = 3
"""Runs before recording: libraries choose their kernels and workspaces in them."""


class CudaGraph:
    """Fill `inputs`, call it, use what it returns before the next call. One thread, one stream at a time.

    Recordings with the same `pool` share memory: the outputs of one are gone once another runs.
    """

    def __init__(self, work: Work, inputs: tuple[torch.Tensor, ...], pool: tuple[int, int] | None = None) -> None:
        """Records on CUDA, which takes a second. Raises torch.OutOfMemoryError."""
        self.inputs = inputs
        self._work = work
        self._graph: torch.cuda.CUDAGraph | None = None
        if inputs[0].device.type == "cuda":
            self._record(pool)

    def __call__(self) -> tuple[torch.Tensor, ...]:
        if self._graph is None:
            return self._work(*self.inputs)
        self._graph.replay()
        return self._outputs

    def _record(self, pool: tuple[int, int] | None) -> None:
        device = self.inputs[0].device
        beside, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(_WARM):
                self._work(*self.inputs)
        here.wait_stream(beside)
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = self._work(*self.inputs)
        self._graph = graph


def shared_pool(device: torch.device) -> tuple[int, int] | None:
    """Memory for recordings that never run at the same time; None where nothing is recorded."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None
