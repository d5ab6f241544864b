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
from warmtalk.models.musetalk.networks import TOKENS, WIDTH, ExecutionMode, MuseTalk, PendingFaces

log = logging.getLogger(__name__)

MAX_BATCH = 16
"""Larger batches are no faster per face, and delay the first face."""
SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Batch sizes recorded at start; other batches are padded to the next size."""
_MEASURED_BATCHES = 4
_COMPILED = ExecutionMode(channels_last=True, compiled=True)


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
    """FaceRenderer and BatchRenderer of MuseTalk. Runs on the device thread only."""

    def __init__(self, networks: MuseTalk, *, max_batch: int = MAX_BATCH) -> None:
        self._networks = networks
        self.max_batch = max_batch
        self.faces_per_second = 0.0

    def measure(self, *, compiled: bool = True) -> None:
        """Selects the fastest execution mode, records all batch sizes, and stores the throughput of full batches.

        Takes seconds on a GPU, and minutes more to try torch.compile unless `compiled` is False; minutes on a CPU.
        Raises Busy when the device has no memory for one face.
        """
        cuda = self._networks.device.type == "cuda"
        # On a CPU, group norm is inaccurate with channels last.
        modes = [ExecutionMode(), ExecutionMode(channels_last=True)] if cuda else [ExecutionMode()]
        rates = {mode: self._mode_throughput(mode) for mode in modes}
        if cuda and compiled:
            rates[_COMPILED] = self._compiled_throughput()
        best = max(rates, key=lambda mode: rates[mode])
        if best != self._networks.mode:
            self._networks.set_mode(best)
        if cuda:
            smallest = 2 if best.compiled else 1  # a batch of one would compile again, and is padded to two
            self._networks.warm_up([size for size in SIZES if smallest <= size < self.max_batch] + [self.max_batch])
        self.faces_per_second = rates[best]
        measured = ", ".join(f"{rate:.1f} ({mode})" for mode, rate in rates.items())
        log.info("batches of %d, faces per second: %s; selected: %s", self.max_batch, measured, best)

    def _compiled_throughput(self) -> float:
        """Returns 0.0 where torch.compile does not work."""
        log.info(
            "trying torch.compile, which takes minutes at the first start; musetalk.compile: false skips the attempt"
        )
        try:
            return self._mode_throughput(_COMPILED)
        except WarmtalkError:
            raise
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and nothing depends on one
            log.warning("continuing without torch.compile: %s: %.200s", type(error).__name__, error)
            return 0.0

    def _mode_throughput(self, mode: ExecutionMode) -> float:
        self._networks.set_mode(mode)
        return self._throughput()

    def _throughput(self) -> float:
        """Returns faces per second in full batches; halves the batch until a batch fits in memory."""
        while True:
            latents, features = torch.zeros(self.max_batch, 8, 32, 32), torch.zeros(self.max_batch, TOKENS, WIDTH)
            times = []
            try:
                for _ in range(_MEASURED_BATCHES):
                    start = time.perf_counter()
                    self._networks.render(latents, features)
                    times.append(time.perf_counter() - start)
            except torch.OutOfMemoryError as error:
                self._halve_batch(self.max_batch, error)
                continue
            return self.max_batch / min(times[1:])  # the first batch records

    def prepare(self, bundle: Bundle) -> MuseTalkAvatar:
        """Loads the latents of an avatar.

        Raises NotReady when the bundle was prepared with other weights, Damaged when the latents are broken.
        """
        stored, networks = read_latents(bundle.path), self._networks
        if stored.version != networks.version or stored.vae not in ("", networks.vae):  # "": imported, VAE unknown
            raise NotReady(
                f"avatar {bundle.info.avatar_id!r} was prepared for MuseTalk {stored.version} (image codec"
                f" {stored.vae}) and not for {networks.version} ({networks.vae})",
                "Build it again with these weights: warmtalk avatar create --replace",
            )
        if len(stored.values) != len(bundle):
            raise Damaged(
                f"avatar {bundle.info.avatar_id!r} is damaged: {len(stored.values)} latents for {len(bundle)} frames",
                "Build it again: warmtalk avatar create --replace",
            )
        latents = torch.from_numpy(stored.values).to(networks.device, networks.dtype)
        return MuseTalkAvatar(bundle.info.avatar_id, latents)

    def render(self, avatar: MuseTalkAvatar, rows: Sequence[int], features: Features) -> list[Image]:
        """Returns one face per row. Raises Busy when the device has no memory for one face, Damaged when a face is
        not finite."""
        faces: list[Image] = []
        for face in self.render_batch([FaceJob(avatar, row, one) for row, one in zip(rows, features, strict=True)]):
            if isinstance(face, WarmtalkError):
                raise face
            faces.append(face)
        return faces

    def render_batch(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> list[Image | WarmtalkError]:
        """Returns the face or the error of each job, in order: a broken avatar does not affect the other jobs.

        Raises Busy when the device has no memory for one face.
        """
        return self.submit_batch(jobs)()

    def submit_batch(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> Callable[[], list[Image | WarmtalkError]]:
        """Starts the work of render_batch. The returned function waits for the faces, on any thread, once."""
        pending: list[tuple[Sequence[FaceJob[MuseTalkAvatar]], PendingFaces]] = []
        done = 0
        while done < len(jobs):
            batch = jobs[done : done + self.max_batch]
            try:
                pending.append((batch, self._submit(batch)))
                done += len(batch)
            except torch.OutOfMemoryError as error:
                self._halve_batch(len(batch), error)
        return lambda: [face for batch, faces in pending for face in _checked(batch, faces)]

    def _submit(self, jobs: Sequence[FaceJob[MuseTalkAvatar]]) -> PendingFaces:
        latents = torch.stack([job.avatar.latents[job.row] for job in jobs])
        features = torch.from_numpy(np.stack([job.features for job in jobs]))
        return self._networks.submit(latents, features)

    def _halve_batch(self, size: int, error: torch.OutOfMemoryError) -> None:
        """Halves the largest batch for good: a batch that did not fit once would not fit later."""
        if size == 1:
            raise Busy(
                "the device has no memory left for one face", "Close other programs on the device", retry_after_s=5.0
            ) from error
        self.max_batch = size // 2
        self._networks.discard_graphs()
        log.warning("out of memory with a batch of %d faces; from now on at most %d", size, self.max_batch)


def _checked(jobs: Sequence[FaceJob[MuseTalkAvatar]], faces: PendingFaces) -> Iterator[Image | WarmtalkError]:
    for job, face, finite in zip(jobs, *faces.wait(), strict=True):
        yield face if finite else _not_finite(job)


def _not_finite(job: FaceJob[MuseTalkAvatar]) -> Damaged:
    return Damaged(
        f"MuseTalk rendered row {job.row} of avatar {job.avatar.avatar_id!r} with values that are not finite",
        "Build the avatar again; if that does not help, set musetalk.dtype to bf16 or fp32",
    )
