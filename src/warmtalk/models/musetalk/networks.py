"""MuseTalk v1 and v1.5: latents of a face and ten steps of speech to the face that says them. One UNet pass.

    features [50, 384] + positions ─┐
    latents [8, 32, 32] ────────────┴─ UNet, timestep 0 ─ [4, 32, 32] ─ VAE decoder ─ uint8 [256, 256, 3] BGR

The formulas are those of MuseTalk's scripts (commit 0a89dec); docs/musetalk.md says where this differs and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from warmtalk.core.types import FACE_SIZE
from warmtalk.models.checkpoints import load
from warmtalk.models.musetalk.cuda_graph import CudaGraph, Work, shared_pool

TOKENS = 50
WIDTH = 384
Faces = npt.NDArray[np.uint8]
"""[B, 256, 256, 3] uint8 BGR."""


def positions(length: int = TOKENS) -> torch.Tensor:
    """[length, 384] float32: sin and cos in turn, over one geometric series of rates (Vaswani 2017, section 3.5)."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, WIDTH, 2).float() * (-math.log(10000.0) / WIDTH))
    table = torch.zeros(length, WIDTH)
    table[:, 0::2] = torch.sin(place * rates)
    table[:, 1::2] = torch.cos(place * rates)
    return table


class Way(NamedTuple):
    """How the networks run. Which is fastest depends on the device: MuseTalkRenderer.measure finds out."""

    channels_last: bool = False
    """How pictures lie in memory."""
    compiled: bool = False
    """What stands between convolutions, products and attention is fused by torch.compile."""

    def __str__(self) -> str:
        return ("channels last" if self.channels_last else "channels first") + (", compiled" if self.compiled else "")


class Drawing:
    """A batch that the device is drawing. `wait` may be called on any thread, once."""

    def __init__(self, host: _Host, count: int, free: list[_Host]) -> None:
        self._host = host
        self._count = count
        self._free = free

    def wait(self) -> tuple[Faces, npt.NDArray[np.bool_]]:
        """Faces and which of them are valid, in memory of their own. Blocks without holding the interpreter."""
        if self._host.done is not None:
            self._host.done.synchronize()
        pixels, finite = (part[: self._count].numpy().copy() for part in (self._host.pixels, self._host.finite))
        self._free.append(self._host)
        return pixels, finite


class MuseTalk:
    """The networks of one version on one device. One thread only."""

    def __init__(
        self, models_dir: Path, version: str, device: torch.device, dtype: torch.dtype, *, fold: bool = True
    ) -> None:
        """`fold` puts the constant of timestep 0 into the weights. Raises NotReady, Damaged and InvalidInput as
        warmtalk.models.checkpoints.load does."""
        unet = load.unet(models_dir, version, dtype, device)
        if fold:
            fold_timestep(unet)
        self.version = version
        self.vae = load.vae_fingerprint(models_dir)
        self.device = device
        self.dtype = dtype
        self._unet = unet
        self._vae = load.vae(models_dir, dtype, device, encoder=False)
        self._positions = positions().to(device, dtype)
        self._timestep = torch.zeros(1, dtype=torch.int64, device=device)
        self._free: list[_Host] = []
        self.take(Way())

    def predict(self, latents: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """[B, 8, 32, 32] and [B, 50, 384] to [B, 4, 32, 32], on the device."""
        with torch.no_grad():
            prompts = features.to(self.device, self.dtype) + self._positions
            sample = latents.to(self.device, self.dtype, memory_format=self._layout)
            return self._unet(sample, self._timestep, encoder_hidden_states=prompts, return_dict=False)[0]

    def decode(self, predicted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 4, 32, 32] to faces [B, 256, 256, 3] uint8 BGR and [B] bool, false where values are not finite."""
        with torch.no_grad():
            latents = (1 / load.VAE_SCALE) * predicted.to(self.device, self.dtype)
            pixels = self._vae.decode(latents, return_dict=False)[0]
            finite = torch.isfinite(pixels).flatten(1).all(1)
            scaled = (pixels / 2 + 0.5).clamp(0, 1).float() * 255
            return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).flip(3), finite

    def faces(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[Faces, npt.NDArray[np.bool_]]:
        """Faces and which of them are valid, in main memory. Raises torch.OutOfMemoryError."""
        return self.begin(latents, features).wait()

    def begin(self, latents: torch.Tensor, features: torch.Tensor) -> Drawing:
        """Starts to draw [B, 8, 32, 32] and float32 [B, 50, 384]; on a GPU it returns before the faces are there.

        A batch is filled up to the next size that `warm_up` recorded; a larger one is recorded now. What is begun is
        drawn in that order. Raises torch.OutOfMemoryError.
        """
        count = len(latents)
        size = min((size for size in self._sizes if size >= count), default=count)
        run = self._sizes.get(size) or self._recorded(size)
        host = self._free.pop() if self._free else _Host(self.device, self.dtype)
        with torch.no_grad():
            for place, values in zip(run.inputs, (latents, host.send(features)), strict=True):
                place[:count].copy_(values, non_blocking=True)
            pixels, finite = run()
            host.receive(pixels[:count], finite[:count])
        return Drawing(host, count, self._free)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Records these sizes of a batch, so that none of them is slow when it first comes. The largest first: the
        others find their memory there. Raises torch.OutOfMemoryError."""
        for size in sorted(sizes, reverse=True):
            if size not in self._sizes:
                self._sizes[size] = self._recorded(size)

    def take(self, way: Way) -> None:
        """From now on they run in this way. The first batch is compiled then, once for all sizes but 1: that takes
        minutes, and raises what torch.compile raises where it finds no compiler."""
        self.way = way
        self._layout = torch.channels_last if way.channels_last else torch.contiguous_format
        for network in (self._unet, self._vae):
            network.to(memory_format=self._layout)
        self._work: Work = torch.compile(self._draw, fullgraph=True) if way.compiled else self._draw
        self.forget_sizes()

    def forget_sizes(self) -> None:
        """Drops what was recorded, and its memory; waits for what is being drawn with it."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._sizes: dict[int, CudaGraph] = {}
        self._pool = shared_pool(self.device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _draw(self, latents: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.decode(self.predict(latents, features))

    def _recorded(self, size: int) -> CudaGraph:
        with torch.no_grad():
            latents = torch.zeros(size, 8, 32, 32, device=self.device, dtype=self.dtype)
            features = torch.zeros(size, TOKENS, WIDTH, device=self.device, dtype=self.dtype)
            if self.way.compiled:
                for one in (latents, features):
                    torch._dynamo.maybe_mark_dynamic(one, 0)
            run = CudaGraph(self._work, (latents, features), self._pool)
        if self.device.type == "cuda":  # elsewhere nothing is gained, and smaller batches would be filled up to it
            self._sizes[size] = run
        return run


class _Host:
    """Main memory that the device reads and writes by itself, for one drawing under way."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._cuda = device.type == "cuda"
        self._features = torch.zeros(0, TOKENS, WIDTH, dtype=dtype)
        self.pixels = torch.zeros(0, FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8)
        self.finite = torch.zeros(0, dtype=torch.bool)
        self.done = torch.cuda.Event() if self._cuda else None

    def send(self, features: torch.Tensor) -> torch.Tensor:
        """The features in the networks' precision, where the device can fetch them."""
        count = len(features)
        if len(self._features) < count:
            self._features, self.pixels, self.finite = (
                torch.zeros(count, *like.shape[1:], dtype=like.dtype, pin_memory=self._cuda)
                for like in (self._features, self.pixels, self.finite)
            )
        return self._features[:count].copy_(features)

    def receive(self, pixels: torch.Tensor, finite: torch.Tensor) -> None:
        self.pixels[: len(pixels)].copy_(pixels, non_blocking=True)
        self.finite[: len(finite)].copy_(finite, non_blocking=True)
        if self.done is not None:
            self.done.record(torch.cuda.current_stream(pixels.device))


def fold_timestep(unet: Any) -> None:
    """Adds what every residual block makes of timestep 0 to the bias of its first convolution, once for all frames.

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
                block.time_embedding_norm = "folded"  # any name but the two it knows: nothing is added
        unet.time_embedding.to(unet.dtype)
