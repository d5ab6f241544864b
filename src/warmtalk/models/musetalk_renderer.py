"""MuseTalk as a renderer: faces of many avatars in one batch on the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from warmtalk.core.bundle import Bundle, read_latents
from warmtalk.core.errors import Busy, Damaged, NotReady, WarmtalkError
from warmtalk.core.ports import FaceJob
from warmtalk.core.types import Features, Image
from warmtalk.models.musetalk import TOKENS, WIDTH, MuseTalk

log = logging.getLogger(__name__)

MAX_BATCH = 16
"""Past this a batch is no faster per face, and the first face of it waits longer."""
_MEASURED = 4


@dataclass(frozen=True, slots=True, eq=False)
class MuseTalkAvatar:
    """Latents of one avatar, on the device."""

    avatar_id: str
    latents: torch.Tensor
    """[n, 8, 32, 32]."""

    @property
    def nbytes(self) -> int:
        return int(self.latents.numel() * self.latents.element_size())


class MuseTalkRenderer:
    """FaceRenderer, and of many avatars at once. Thread of the device only."""

    name = "musetalk"

    def __init__(self, networks: MuseTalk, *, max_batch: int = MAX_BATCH) -> None:
        self._networks = networks
        self.max_batch = max_batch
        self.faces_per_second = 0.0

    def measure(self) -> None:
        """Draws full batches until the device is warm, and notes how fast: takes seconds on a GPU, minutes on a CPU."""
        latents, features = torch.zeros(self.max_batch, 8, 32, 32), torch.zeros(self.max_batch, TOKENS, WIDTH)
        times = []
        for _ in range(_MEASURED):
            begin = time.perf_counter()
            self._networks.faces(latents, features)
            times.append(time.perf_counter() - begin)
        self.faces_per_second = self.max_batch / min(times)

    def prepare(self, bundle: Bundle) -> MuseTalkAvatar:
        """Raises NotReady when the bundle was prepared with other weights, Damaged when its latents are broken."""
        found = read_latents(bundle.path)
        here = self._networks
        if found.version != here.version or found.vae not in ("", here.vae):  # "": imported, nobody knows
            raise NotReady(
                f"avatar {bundle.info.avatar_id!r} was prepared for MuseTalk {found.version} (image codec {found.vae})"
                f" and not for {here.version} ({here.vae})",
                "Build it again with these weights: warmtalk avatar create --replace",
            )
        if len(found.values) != len(bundle):
            raise Damaged(
                f"avatar {bundle.info.avatar_id!r} is damaged: {len(found.values)} latents for {len(bundle)} frames",
                "Build it again: warmtalk avatar create --replace",
            )
        latents = torch.from_numpy(found.values).to(self._networks.device, self._networks.dtype)
        return MuseTalkAvatar(bundle.info.avatar_id, latents)

    def render(self, avatar: MuseTalkAvatar, rows: Sequence[int], features: Features) -> list[Image]:
        """Raises Busy when the device has no memory for a single face, Damaged when a face is not finite."""
        faces: list[Image] = []
        for face in self.render_many([FaceJob(avatar, row, one) for row, one in zip(rows, features, strict=True)]):
            if isinstance(face, WarmtalkError):
                raise face
            faces.append(face)
        return faces

    def render_many(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> list[Image | WarmtalkError]:
        """A face or what went wrong with it, for each job in order: one broken avatar does not spoil the others'.

        Raises Busy when the device has no memory for a single face.
        """
        done: list[Image | WarmtalkError] = []
        while len(done) < len(jobs):
            batch = jobs[len(done) : len(done) + self.max_batch]
            try:
                done += self._draw(batch)
            except torch.OutOfMemoryError as error:
                self._shrink(len(batch), error)
        return done

    def _draw(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> list[Image | WarmtalkError]:
        latents = torch.stack([job.avatar.latents[job.row] for job in jobs])
        features = torch.from_numpy(np.stack([job.features for job in jobs]))
        faces, finite = self._networks.faces(latents, features)
        return [face if good else _not_finite(job) for job, face, good in zip(jobs, faces, finite, strict=True)]

    def _shrink(self, size: int, error: torch.OutOfMemoryError) -> None:
        """The smaller batch stays: what did not fit once would not fit again."""
        if size == 1:
            raise Busy(
                "the device has no memory left for one face", "Close other programs on it", retry_after_s=5.0
            ) from error
        self.max_batch = size // 2
        torch.cuda.empty_cache()
        log.warning("out of memory with %d faces at once; from now on at most %d", size, self.max_batch)


def _not_finite(job: FaceJob[MuseTalkAvatar]) -> Damaged:
    return Damaged(
        f"MuseTalk drew row {job.row} of avatar {job.avatar.avatar_id!r} with values that are not finite",
        "Build the avatar again; if that does not help, set musetalk.dtype to bf16 or fp32",
    )
