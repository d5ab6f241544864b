"""Golden checks of whole runs: crops, latents, UNet, faces, masks, blended frames, of the reference's two programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from warmtalk.core.faces import crop_box, crop_face
from warmtalk.core.masks import OFFLINE_BLUR, REALTIME_BLUR, assemble
from warmtalk.core.types import Box, Features, Image, cycle_row
from warmtalk.golden import steps
from warmtalk.golden.table import Array, Table, Tolerances
from warmtalk.golden.vectors import Vectors, version_of
from warmtalk.models.checkpoints.load import VAE_SCALE
from warmtalk.models.musetalk.latents import LatentEncoder, vae_input
from warmtalk.models.musetalk.networks import MuseTalk

_MARGIN = 10
"""Pixels under the chin that the scripts add for v1.5."""
_BATCH = 8


@dataclass
class GoldenRun:
    """One run: its inputs, its arrays, and what this installation makes of them, computed once."""

    vectors: Vectors
    file: str
    name: str
    noise: Array
    """[2n, 4, 32, 32] what the reference's posterior drew."""
    frames: list[Image]
    features: Features
    """[N, 50, 384] without positions."""
    networks: MuseTalk
    encoder: LatentEncoder
    limit: Tolerances
    table: Table

    @property
    def realtime(self) -> bool:
        return "_rt_" in self.name

    @cached_property
    def boxes(self) -> list[Box]:
        """Face box of each source frame."""
        if self.realtime:
            rows = self.vectors.get(self.file, f"{self.name}/coord_list_cycle")[: len(self.frames)]
            return [Box(*row.tolist()) for row in rows]
        margin = _MARGIN if version_of(self.name) == "v15" else 0
        rows = self.vectors.get(self.file, f"{self.name}/coords")
        height = self.frames[0].shape[0]
        return [Box(x1, y1, x2, min(y2 + margin, height)) for x1, y1, x2, y2 in rows.tolist()]

    @cached_property
    def crops(self) -> list[Image]:
        return [crop_face(frame, box) for frame, box in zip(self.frames, self.boxes, strict=True)]

    @cached_property
    def posterior(self) -> tuple[Array, Array]:
        """Mean and deviation, [2n, 4, 32, 32] each: masked, whole, masked ... One picture at a time, as there."""
        pictures = [vae_input([crop], masked=masked) for crop in self.crops for masked in (True, False)]
        found = [self.encoder.posterior(picture) for picture in pictures]
        return torch.cat([mean for mean, _ in found]).numpy(), torch.cat([std for _, std in found]).numpy()

    @cached_property
    def latents(self) -> Array:
        """[n, 8, 32, 32], with the recorded noise."""
        mean, deviation = self.posterior
        drawn: Array = VAE_SCALE * (mean + deviation * self.noise[: len(mean)])
        return drawn.reshape(-1, 8, 32, 32)

    def predict(self, numbers: Sequence[int]) -> Array:
        """UNet output of these video frames."""
        parts = []
        for i in range(0, len(numbers), _BATCH):
            batch = list(numbers[i : i + _BATCH])
            rows = [cycle_row(number, len(self.frames)) for number in batch]
            latents, features = torch.from_numpy(self.latents[rows]), torch.from_numpy(self.features[batch])
            parts.append(self.networks.predict(latents, features).float().cpu().numpy())
        return np.concatenate(parts)

    def face(self, number: int) -> Image:
        """This installation's face of one video frame."""
        pixels, _ = self.networks.decode(torch.from_numpy(self.predict([number])))
        return np.asarray(pixels[0].cpu().numpy(), np.uint8)


def check_run(run: GoldenRun) -> None:
    keys = {key.split("/", 1)[1] for key in run.vectors.keys(run.file, f"{run.name}/")}
    _check_latents(run, keys)
    _check_predictions(run, keys)
    recorded = _check_faces(run, keys)
    if run.realtime:
        _check_cycle(run)
    for key in sorted(keys):
        if key.startswith("mask_") and key.removeprefix("mask_").isdecimal():
            _check(run, key, _mask(run, cycle_row(int(key.removeprefix("mask_")), len(run.frames))))
        elif key.startswith("final_") and "box" not in key:
            _check_frame(run, int(key.removeprefix("final_")), recorded)


def _check(run: GoldenRun, key: str, found: Array, tolerance: float = 0.0) -> None:
    wanted = run.vectors.get(run.file, f"{run.name}/{key}")
    run.table.close(f"{run.file} {run.name}/{key}", wanted, found, tolerance)


def _check_latents(run: GoldenRun, keys: set[str]) -> None:
    if "crop256" in keys:
        count = len(run.vectors.get(run.file, f"{run.name}/crop256"))
        _check(run, "crop256", np.stack(run.crops[:count]))
    if "enc_in_masked" in keys:
        _check(run, "enc_in_masked", vae_input(run.crops[:1], masked=True)[:, :, 120:136].numpy())
    for key, found in (("post_mean", 0), ("post_std", 1)):
        if key in keys:
            count = len(run.vectors.get(run.file, f"{run.name}/{key}"))
            _check(run, key, run.posterior[found][:count], run.limit.latents / VAE_SCALE)
    if "latents" in keys:
        count = len(run.vectors.get(run.file, f"{run.name}/latents"))
        _check(run, "latents", run.latents[:count], run.limit.latents)


def _check_predictions(run: GoldenRun, keys: set[str]) -> None:
    total = len(run.features)
    for key in sorted(key for key in keys if key.startswith("pred_latents")):
        count = len(run.vectors.get(run.file, f"{run.name}/{key}"))
        numbers = list(range(count))
        if key.endswith("_last"):
            numbers = list(range(total - count, total))
        elif key.endswith("first2_last2"):
            numbers = [0, 1, total - 2, total - 1]
        _check(run, key, run.predict(numbers), run.limit.unet)


def _check_faces(run: GoldenRun, keys: set[str]) -> dict[int, Image]:
    """The recorded faces by video frame."""
    recorded: dict[int, Image] = {}
    for key in sorted(key for key in keys if key.startswith("recon")):
        wanted = run.vectors.get(run.file, f"{run.name}/{key}")
        number = key.removeprefix("recon").removeprefix("_")
        numbers = [int(number)] if number else run.vectors.frame_numbers(run.file, f"{run.name}/{key}")
        found = np.stack([run.face(one) for one in numbers])
        run.table.pixels(f"{run.file} {run.name}/{key}", wanted, found, run.limit)
        recorded |= dict(zip(numbers, wanted, strict=True))
    return recorded


def _check_cycle(run: GoldenRun) -> None:
    rows = [cycle_row(i, len(run.frames)) for i in range(2 * len(run.frames))]
    _check(run, "coord_list_cycle", np.array([run.boxes[row].as_tuple() for row in rows]))
    _check(run, "mask_coords_list_cycle", np.array([crop_box(run.boxes[row]).as_tuple() for row in rows]))


def _mask(run: GoldenRun, row: int) -> Array:
    face, crop = run.boxes[row], crop_box(run.boxes[row])
    blur = REALTIME_BLUR if run.realtime else OFFLINE_BLUR
    return assemble(steps.hard_mask(run.vectors, run.name, crop), face, crop, blur=blur)


def _check_frame(run: GoldenRun, number: int, recorded: dict[int, Image]) -> None:
    """The blend alone where the face is recorded, which must be exact; else with this installation's face."""
    row = cycle_row(number, len(run.frames))
    face, crop = run.boxes[row], crop_box(run.boxes[row])
    for key, box in (("face_box", face), ("crop_box", crop)):
        if run.vectors.find(run.file, f"{run.name}/{key}_{number}") is not None:
            _check(run, f"{key}_{number}", np.array(box.as_tuple()))
    pixels = recorded.get(number)
    whole = steps.blended(run.frames[row], _mask(run, row), face, crop, run.face(number) if pixels is None else pixels)
    x1, y1, x2, y2 = run.vectors.get(run.file, f"{run.name}/final_box_{number}").tolist()
    found = whole[y1:y2, x1:x2]
    if pixels is not None:
        _check(run, f"final_{number}", found)
    else:
        wanted = run.vectors.get(run.file, f"{run.name}/final_{number}")
        run.table.pixels(f"{run.file} {run.name}/final_{number}", wanted, found, run.limit)
