"""MuseTalk v1 and v1.5: latents of a face and ten steps of speech features to a speaking face. One UNet pass.

    features [50, 384] + positions ─┐
    latents [8, 32, 32] ────────────┴─ UNet, timestep 0 ─ [4, 32, 32] ─ VAE decoder ─ uint8 [256, 256, 3] BGR

The formulas are those of MuseTalk's scripts (commit 0a89dec); docs/musetalk.md lists the differences and their reasons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from warmtalk.core.types import FACE_SIZE
from warmtalk.models.checkpoints import load
from warmtalk.models.musetalk.cuda_graph import CudaGraph, GraphFunction, shared_pool

TOKENS = 50
WIDTH = 384
Faces = npt.NDArray[np.uint8]
"""[B, 256, 256, 3] uint8 BGR."""


def positional_encoding(length: int = TOKENS) -> torch.Tensor:
    """Returns [length, 384] float32: sin and cos in turn, of a geometric series of rates (Vaswani 2017, 3.5)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, WIDTH, 2).float() * (-math.log(10000.0) / WIDTH))
    table = torch.zeros(length, WIDTH)
    table[:, 0::2] = torch.sin(position * rates)
    table[:, 1::2] = torch.cos(position * rates)
    return table


class ExecutionMode(NamedTuple):
    """How the networks run. The fastest mode depends on the device: MuseTalkRenderer.measure selects one."""

    channels_last: bool = False
    """Memory layout of images."""
    compiled: bool = False
    """torch.compile fuses the operations between convolutions, products and attention."""

    def __str__(self) -> str:
        return ("channels last" if self.channels_last else "channels first") + (", compiled" if self.compiled else "")


class PendingFaces:
    """A batch in progress on the device. `wait` may be called on any thread, once."""

    def __init__(self, buffers: _HostBuffers, count: int, free: list[_HostBuffers]) -> None:
        self._buffers = buffers
        self._count = count
        self._free = free

    def wait(self) -> tuple[Faces, npt.NDArray[np.bool_]]:
        """Returns copies of the faces and of [B] valid flags. Blocks without holding the interpreter lock."""
        if self._buffers.done is not None:
            self._buffers.done.synchronize()
        pixels, finite = (part[: self._count].numpy().copy() for part in (self._buffers.pixels, self._buffers.finite))
        self._free.append(self._buffers)
        return pixels, finite


class MuseTalk:
    """The networks of one version on one device. One thread only."""

    def __init__(
        self, models_dir: Path, version: str, device: torch.device, dtype: torch.dtype, *, fold: bool = True
    ) -> None:
        """Loads the weights; `fold` adds the constants of timestep 0 to the weights.

        Raises NotReady, Damaged and InvalidInput as warmtalk.models.checkpoints.load does.
        """
        unet = load.unet(models_dir, version, dtype, device)
        if fold:
            fold_timestep(unet)
        self.version = version
        self.vae = load.vae_fingerprint(models_dir)
        self.device = device
        self.dtype = dtype
        self._unet = unet
        self._vae = load.vae(models_dir, dtype, device, encoder=False)
        self._positions = positional_encoding().to(device, dtype)
        self._timestep = torch.zeros(1, dtype=torch.int64, device=device)
        self._free_buffers: list[_HostBuffers] = []
        self.set_mode(ExecutionMode())

    @property
    def unet(self) -> nn.Module:
        """The UNet2DConditionModel."""
        return self._unet

    @property
    def decoder(self) -> nn.Module:
        """The VAE without encoder."""
        return self._vae

    def predict(self, latents: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Returns predicted latents [B, 4, 32, 32] on the device, for [B, 8, 32, 32] and [B, 50, 384]."""
        with torch.no_grad():
            prompts = features.to(self.device, self.dtype) + self._positions
            sample = latents.to(self.device, self.dtype, memory_format=self._layout)
            return self._unet(sample, self._timestep, encoder_hidden_states=prompts, return_dict=False)[0]

    def decode(self, predicted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns faces [B, 256, 256, 3] uint8 BGR of [B, 4, 32, 32], and [B] bool: False for values not finite."""
        with torch.no_grad():
            latents = (1 / load.VAE_SCALE) * predicted.to(self.device, self.dtype)
            pixels = self._vae.decode(latents, return_dict=False)[0]
            finite = torch.isfinite(pixels).flatten(1).all(1)
            scaled = (pixels / 2 + 0.5).clamp(0, 1).float() * 255
            return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).flip(3), finite

    def render(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[Faces, npt.NDArray[np.bool_]]:
        """Returns faces and valid flags in main memory. Raises torch.OutOfMemoryError."""
        return self.submit(latents, features).wait()

    def submit(self, latents: torch.Tensor, features: torch.Tensor) -> PendingFaces:
        """Starts rendering [B, 8, 32, 32] and float32 [B, 50, 384]; on a GPU returns before the faces are ready.

        A batch is padded to the next size recorded by `warm_up`; a batch of a larger size is recorded now. Batches
        are rendered in the order of the calls. Raises torch.OutOfMemoryError.
        """
        count = len(latents)
        size = min((size for size in self._graphs if size >= count), default=count)
        graph = self._graphs.get(size) or self._record(size)
        buffers = self._free_buffers.pop() if self._free_buffers else _HostBuffers(self.device, self.dtype)
        with torch.no_grad():
            for target, values in zip(graph.inputs, (latents, buffers.stage(features)), strict=True):
                target[:count].copy_(values, non_blocking=True)
            pixels, finite = graph()
            buffers.fetch(pixels[:count], finite[:count])
        return PendingFaces(buffers, count, self._free_buffers)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Records graphs of these batch sizes, to avoid a slow first batch. Raises torch.OutOfMemoryError.

        Records the largest size first: smaller graphs reuse the memory.
        """
        for size in sorted(sizes, reverse=True):
            if size not in self._graphs:
                self._graphs[size] = self._record(size)

    def set_mode(self, mode: ExecutionMode) -> None:
        """Runs the networks in `mode` from now on.

        The first batch compiles, once for all sizes but 1. Compiling takes minutes, and raises the errors of
        torch.compile where torch.compile finds no compiler.
        """
        self.mode = mode
        self._layout = torch.channels_last if mode.channels_last else torch.contiguous_format
        for network in (self._unet, self._vae):
            network.to(memory_format=self._layout)
        run = self._run_networks
        self._function: GraphFunction = torch.compile(run, fullgraph=True) if mode.compiled else run
        self.discard_graphs()

    def discard_graphs(self) -> None:
        """Drops recorded graphs and frees their memory, after all submitted batches."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._graphs: dict[int, CudaGraph] = {}
        self._pool = shared_pool(self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _run_networks(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.decode(self.predict(latents, features))

    def _record(self, size: int) -> CudaGraph:
        with torch.no_grad():
            latents = torch.zeros(size, 8, 32, 32, device=self.device, dtype=self.dtype)
            features = torch.zeros(size, TOKENS, WIDTH, device=self.device, dtype=self.dtype)
            if self.mode.compiled:
                for inputs in (latents, features):
                    torch._dynamo.maybe_mark_dynamic(inputs, 0)
            graph = CudaGraph(self._function, (latents, features), self._pool)
        if self.device.type == "cuda":  # elsewhere a kept graph saves nothing, and pads smaller batches
            self._graphs[size] = graph
        return graph


class _HostBuffers:
    """Main memory of one batch, pinned on CUDA for copies without waiting."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._cuda = device.type == "cuda"
        self._features = torch.zeros(0, TOKENS, WIDTH, dtype=dtype)
        self.pixels = torch.zeros(0, FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8)
        self.finite = torch.zeros(0, dtype=torch.bool)
        self.done = torch.cuda.Event() if self._cuda else None

    def stage(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the features in the networks' precision, in memory for copies to the device."""
        count = len(features)
        if len(self._features) < count:
            self._features, self.pixels, self.finite = (
                torch.zeros(count, *like.shape[1:], dtype=like.dtype, pin_memory=self._cuda)
                for like in (self._features, self.pixels, self.finite)
            )
        return self._features[:count].copy_(features)

    def fetch(self, pixels: torch.Tensor, finite: torch.Tensor) -> None:
        """Starts the copy of the results from the device; `done` is recorded behind the copy."""
        self.pixels[: len(pixels)].copy_(pixels, non_blocking=True)
        self.finite[: len(finite)].copy_(finite, non_blocking=True)
        if self.done is not None:
            self.done.record(torch.cuda.current_stream(pixels.device))


def fold_timestep(unet: Any) -> None:
    """Adds each residual block's projection of timestep 0 to the bias of the block's first convolution.

    The timestep never changes, so 22 projections a pass (full size) are constants of the checkpoint.
    """
    with torch.no_grad():
        sinusoid = unet.time_proj(torch.zeros(1, dtype=torch.int64, device=unet.device)).float()
        embedding = unet.time_embedding.float()(sinusoid)
        for block in unet.modules():
            if getattr(block, "time_emb_proj", None) is not None:
                shift = block.time_emb_proj.float()(block.nonlinearity(embedding))[0]
                bias = block.conv1.bias
                block.conv1.bias = torch.nn.Parameter((bias.float() + shift).to(bias.dtype), requires_grad=False)
                block.time_emb_proj = None
                block.time_embedding_norm = "folded"  # any name but the two that diffusers knows: nothing is added
        unet.time_embedding.to(unet.dtype)
