"""Work of fixed shapes, recorded once on a GPU and replayed: one call starts about 900 kernels.

On other devices the same work runs again for each call: both cases run the same code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

GraphFunction = Callable[..., tuple[torch.Tensor, ...]]
_WARM_UP_RUNS = 3
"""Runs before recording, in which libraries choose kernels and workspaces."""


class CudaGraph:
    """A recorded function: fill `inputs`, call, use the outputs before the next call. One thread, one CUDA stream.

    Graphs with the same `pool` share memory: a run of one graph overwrites the outputs of the others.
    """

    def __init__(
        self, function: GraphFunction, inputs: tuple[torch.Tensor, ...], pool: tuple[int, int] | None = None
    ) -> None:
        """Records on CUDA, which takes a second. Raises torch.OutOfMemoryError."""
        self.inputs = inputs
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        if inputs[0].device.type == "cuda":
            self._record(pool)

    def __call__(self) -> tuple[torch.Tensor, ...]:
        if self._graph is None:
            return self._function(*self.inputs)
        self._graph.replay()
        return self._outputs

    def _record(self, pool: tuple[int, int] | None) -> None:
        device = self.inputs[0].device
        side_stream, current_stream = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        side_stream.wait_stream(current_stream)
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UP_RUNS):
                self._function(*self.inputs)
        current_stream.wait_stream(side_stream)
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = self._function(*self.inputs)
        self._graph = graph


def shared_pool(device: torch.device) -> tuple[int, int] | None:
    """Returns a memory pool for graphs that never run at the same time; None for devices without recording."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None
