"""MuseTalk as a renderer: faces of many avatars in one batch on the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from warmtalk.core.bundle import Bundle
from warmtalk.core.bundle_files import read_latents
from warmtalk.core.errors import Busy, Damaged, NotReady, WarmtalkError
from warmtalk.core.ports import FaceJob
from warmtalk.core.types import Features, Image
from warmtalk.models.musetalk.networks import TOKENS, WIDTH, Drawing, MuseTalk, Way

log = logging.getLogger(__name__)

MAX_BATCH = 16
"""Past this a batch is no faster per face, and the first face of it waits longer."""
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Of a batch, that are recorded at start; others are filled up to the next."""
_MEASURED = 4
_COMPILED = Way(channels_last=True, compiled=True)


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

    def measure(self, *, compiled: bool = True) -> None:
        """Takes the way that is fastest on this device, records all sizes of a batch, notes how fast a full one is.

        Seconds on a GPU, and minutes more for trying torch.compile unless `compiled` is false; minutes on a CPU.
        Raises Busy when the device has no memory for one face.
        """
        cuda = self._networks.device.type == "cuda"
        ways = [Way(), Way(channels_last=True)] if cuda else [Way()]  # on a CPU group norm is wrong with channels last
        rates = {way: self._rate_of(way) for way in ways}
        if cuda and compiled:
            rates[_COMPILED] = self._rate_compiled()
        best = max(rates, key=lambda way: rates[way])
        if best != self._networks.way:
            self._networks.take(best)
        if cuda:
            least = 2 if best.compiled else 1  # one face alone would be compiled again: it is drawn as two
            self._networks.warm_up([size for size in SIZES if least <= size < self.max_batch] + [self.max_batch])
        self.faces_per_second = rates[best]
        found = ", ".join(f"{rate:.1f} ({way})" for way, rate in rates.items())
        log.info("%d faces at once, faces a second: %s; taken: %s", self.max_batch, found, best)

    def _rate_compiled(self) -> float:
        """0.0 where torch.compile does not work."""
        log.info("trying torch.compile, which takes minutes at the first start; musetalk.compile: false leaves it out")
        try:
            return self._rate_of(_COMPILED)
        except WarmtalkError:
            raise
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way; without it all works as well
            log.warning("going on without torch.compile: %s: %.200s", type(error).__name__, error)
            return 0.0

    def _rate_of(self, way: Way) -> float:
        self._networks.take(way)
        return self._rate()

    def _rate(self) -> float:
        """Faces a second in full batches, which shrink until they fit."""
        while True:
            latents, features = torch.zeros(self.max_batch, 8, 32, 32), torch.zeros(self.max_batch, TOKENS, WIDTH)
            times = []
            try:
                for _ in range(_MEASURED):
                    begin = time.perf_counter()
                    self._networks.faces(latents, features)
                    times.append(time.perf_counter() - begin)
            except torch.OutOfMemoryError as error:
                self._shrink(self.max_batch, error)
                continue
            return self.max_batch / min(times[1:])  # the first records

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
        return self.submit_batch(jobs)()

    def submit_batch(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> Callable[[], list[Image | WarmtalkError]]:
        """Starts on what render_many does. What it returns waits for the faces, on any thread, once."""
        begun: list[tuple[Sequence[FaceJob[MuseTalkAvatar]], Drawing]] = []
        done = 0
        while done < len(jobs):
            batch = jobs[done : done + self.max_batch]
            try:
                begun.append((batch, self._begin(batch)))
                done += len(batch)
            except torch.OutOfMemoryError as error:
                self._shrink(len(batch), error)
        return lambda: [face for batch, drawing in begun for face in _checked(batch, drawing)]

    def _begin(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> Drawing:
        latents = torch.stack([job.avatar.latents[job.row] for job in jobs])
        features = torch.from_numpy(np.stack([job.features for job in jobs]))
        return self._networks.begin(latents, features)

    def _shrink(self, size: int, error: torch.OutOfMemoryError) -> None:
        """The smaller batch stays: what did not fit once would not fit again."""
        if size == 1:
            raise Busy(
                "the device has no memory left for one face", "Close other programs on it", retry_after_s=5.0
            ) from error
        self.max_batch = size // 2
        self._networks.forget_sizes()
        log.warning("out of memory with %d faces at once; from now on at most %d", size, self.max_batch)


def _checked(jobs: Sequence[FaceJob[MuseTalkAvatar]], drawing: Drawing) -> Iterator[Image | WarmtalkError]:
    for job, face, good in zip(jobs, *drawing.wait(), strict=True):
        yield face if good else _not_finite(job)


def _not_finite(job: FaceJob[MuseTalkAvatar]) -> Damaged:
    return Damaged(
        f"MuseTalk drew row {job.row} of avatar {job.avatar.avatar_id!r} with values that are not finite",
        "Build the avatar again; if that does not help, set musetalk.dtype to bf16 or fp32",
    )
