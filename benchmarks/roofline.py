"""Roofline model: the least time of work on a device with given ceilings.

Convolutions, matrix products and attention run one after the other, each limited by arithmetic or by the memory traffic
of its own operands. All operations in between are free (fused).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_ATTENTION = "scaled_dot_product"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Peak performance of one device in one precision."""

    tflops: float
    """TFLOP/s of a large matrix product."""
    gbps: float
    """GB/s of a large copy, reads plus writes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Arithmetic and memory traffic of some work."""

    ops: tuple[tuple[int, int], ...]
    """(FLOP, bytes) of each operation. One multiply-add counts as 2 FLOP."""

    @property
    def gflop(self) -> float:
        """Total arithmetic in GFLOP."""
        return sum(flop for flop, _ in self.ops) / 1e9

    def seconds(self, device: Ceilings) -> float:
        """Returns the least time on the device."""
        return sum(max(flop / (device.tflops * 1e12), moved / (device.gbps * 1e9)) for flop, moved in self.ops)


def cost_of(work: Callable[[], object]) -> Cost:
    """Runs the work once, without CUDA graphs or compilation, and returns the cost."""
    with torch.inference_mode(), _Ledger() as ledger:
        work()
    return Cost(tuple(ledger.ops))


class _Ledger(TorchDispatchMode):  # type: ignore[misc]  # torch is Any to the type checker
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func._overloadpacket
        attention = _ATTENTION in str(packet)
        if not attention and packet not in flop_registry:
            with self:  # in inference mode a linear layer is one operation: count its parts
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if attention:
            query, key, value = args[:3]
            flop = sdpa_flop_count(query.shape, key.shape, value.shape)
            first = next(one for one in tree_leaves(out) if isinstance(one, torch.Tensor))
            self.ops.append((flop, _bytes((query, key, value, first))))
        elif packet in flop_registry:
            self.ops.append((flop_registry[packet](*args, **kwargs, out_val=out), _bytes((args, out))))
        return out


def _bytes(tensors: Any) -> int:
    return sum(one.nbytes for one in tree_leaves(tensors) if isinstance(one, torch.Tensor))
