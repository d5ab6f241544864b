"""Golden checks of whole runs of the reference's two programs: crops, latents, UNet, faces, masks, blended frames."""

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
from warmtalk.golden.installation import Installation
from warmtalk.golden.rounding import RoundingError
from warmtalk.golden.table import Array, Table
from warmtalk.golden.vectors import Vectors, version_of
from warmtalk.models.checkpoints.load import VAE_SCALE
from warmtalk.models.musetalk.latents import vae_input

_CHIN_MARGIN = 10
"""Pixels added below the chin by the scripts for v1.5."""
_BATCH = 8


@dataclass
class GoldenRun:
    """One run: recorded arrays, inputs, and the results of this installation for the same inputs."""

    vectors: Vectors
    file: str
    name: str
    clip: str
    """NAME of the inputs."""
    features: Features
    """[N, 50, 384] without positional encoding."""
    installed: Installation
    table: Table

    @property
    def realtime(self) -> bool:
        return "_rt_" in self.name

    @property
    def version(self) -> str:
        return version_of(self.name)

    @cached_property
    def frames(self) -> list[Image]:
        """Source frames of the clip."""
        return self.vectors.frames(self.clip)

    @cached_property
    def noise(self) -> Array:
        """[frames, 2, 4, 32, 32] noise with which the reference sampled the posterior: masked crop, whole crop."""
        noise = self.vectors.get(f"{self.clip}_offline.npz", f"{self.clip}_noise")
        return noise.reshape(-1, 2, *noise.shape[1:])

    @cached_property
    def boxes(self) -> list[Box]:
        """Face box of each source frame."""
        if self.realtime:
            rows = self.recorded("coord_list_cycle")[: len(self.frames)]
            return [Box(*row.tolist()) for row in rows]
        margin = _CHIN_MARGIN if self.version == "v15" else 0
        height = self.frames[0].shape[0]
        return [Box(x1, y1, x2, min(y2 + margin, height)) for x1, y1, x2, y2 in self.recorded("coords").tolist()]

    @cached_property
    def crops(self) -> list[Image]:
        """Face crop of each source frame."""
        return [crop_face(frame, box) for frame, box in zip(self.frames, self.boxes, strict=True)]

    def recorded(self, key: str) -> Array:
        """Returns a recorded array of this run."""
        return self.vectors.get(self.file, f"{self.name}/{key}")

    def compare(self, key: str, actual: Array, error: RoundingError | None = None) -> None:
        """Adds a row to the table: exact without `error`."""
        expected = self.recorded(key)
        tolerance = error.limit * float(np.abs(expected).max()) if error else 0.0
        self.table.compare(f"{self.file} {self.name}/{key}", expected, actual, tolerance)

    def compare_pixels(self, key: str, actual: Image) -> None:
        """Adds a row to the table for decoded faces, or frames with decoded faces."""
        error = self.installed.face_error(self.version)
        array = f"{self.file} {self.name}/{key}"
        self.table.compare_pixels(array, self.recorded(key), actual, error.pixel_limit, error.pixel_share)

    def latents(self, rows: Sequence[int]) -> Array:
        """Returns [rows, 8, 32, 32], with the recorded noise."""
        sampled = []
        for row in rows:
            mean, deviation = self.installed.posterior(self.crops[row])
            sampled.append((VAE_SCALE * (mean + deviation * self.noise[row])).reshape(8, 32, 32))
        return np.stack(sampled)

    def predict(self, numbers: Sequence[int]) -> Array:
        """Returns the UNet's output for these video frames."""
        networks, parts = self.installed.networks(self.version), []
        for i in range(0, len(numbers), _BATCH):
            batch = list(numbers[i : i + _BATCH])
            latents = self.latents([cycle_row(number, len(self.frames)) for number in batch])
            predicted = networks.predict(torch.from_numpy(latents), torch.from_numpy(self.features[batch]))
            parts.append(predicted.float().cpu().numpy())
        return np.concatenate(parts)

    def face(self, number: int) -> Image:
        """Returns the face of one video frame."""
        pixels, _ = self.installed.networks(self.version).decode(torch.from_numpy(self.predict([number])))
        return np.asarray(pixels[0].cpu().numpy(), np.uint8)


def check_run(run: GoldenRun) -> None:
    """Compares each recorded array of a run."""
    keys = {key.split("/", 1)[1] for key in run.vectors.keys(run.file, f"{run.name}/")}
    _check_latents(run, keys)
    _check_predictions(run, keys)
    recorded = _check_faces(run, keys)
    if run.realtime:
        _check_cycle(run)
    for key in sorted(keys):
        if key.startswith("mask_") and key.removeprefix("mask_").isdecimal():
            run.compare(key, _mask(run, cycle_row(int(key.removeprefix("mask_")), len(run.frames))))
        elif key.startswith("final_") and "box" not in key:
            _check_frame(run, int(key.removeprefix("final_")), recorded)


def _check_latents(run: GoldenRun, keys: set[str]) -> None:
    error = run.installed.latent_error
    if "crop256" in keys:
        run.compare("crop256", np.stack(run.crops[: len(run.recorded("crop256"))]))
    if "enc_in_masked" in keys:
        run.compare("enc_in_masked", vae_input(run.crops[:1], masked=True)[:, :, 120:136].numpy())
    for key, part in (("post_mean", 0), ("post_std", 1)):
        if key in keys:
            count = len(run.recorded(key))  # two for each frame: masked crop, whole crop
            crops = run.crops[: -(-count // 2)]
            actual = np.concatenate([run.installed.posterior(crop)[part] for crop in crops])
            run.compare(key, actual[:count], error)
    if "latents" in keys:
        run.compare("latents", run.latents(range(len(run.recorded("latents")))), error)


def _check_predictions(run: GoldenRun, keys: set[str]) -> None:
    total = len(run.features)
    for key in sorted(key for key in keys if key.startswith("pred_latents")):
        count = len(run.recorded(key))
        numbers = list(range(count))
        if key.endswith("_last"):
            numbers = list(range(total - count, total))
        elif key.endswith("first2_last2"):
            numbers = [0, 1, total - 2, total - 1]
        run.compare(key, run.predict(numbers), run.installed.unet_error(run.version))


def _check_faces(run: GoldenRun, keys: set[str]) -> dict[int, Image]:
    """Compares decoded faces. Returns the recorded faces by video frame."""
    recorded: dict[int, Image] = {}
    for key in sorted(key for key in keys if key.startswith("recon")):
        number = key.removeprefix("recon").removeprefix("_")
        numbers = [int(number)] if number else run.vectors.frame_numbers(run.file, f"{run.name}/{key}")
        run.compare_pixels(key, np.stack([run.face(one) for one in numbers]))
        recorded |= dict(zip(numbers, run.recorded(key), strict=True))
    return recorded


def _check_cycle(run: GoldenRun) -> None:
    rows = [cycle_row(i, len(run.frames)) for i in range(2 * len(run.frames))]
    run.compare("coord_list_cycle", np.array([run.boxes[row].as_tuple() for row in rows]))
    run.compare("mask_coords_list_cycle", np.array([crop_box(run.boxes[row]).as_tuple() for row in rows]))


def _mask(run: GoldenRun, row: int) -> Array:
    face, crop = run.boxes[row], crop_box(run.boxes[row])
    blur = REALTIME_BLUR if run.realtime else OFFLINE_BLUR
    return assemble(steps.hard_mask(run.vectors, run.name, crop), face, crop, blur=blur)


def _check_frame(run: GoldenRun, number: int, recorded: dict[int, Image]) -> None:
    """Compares a blended frame: exactly with a recorded face, else within the tolerance of a rendered face."""
    row = cycle_row(number, len(run.frames))
    face, crop = run.boxes[row], crop_box(run.boxes[row])
    for key, box in (("face_box", face), ("crop_box", crop)):
        if run.vectors.find(run.file, f"{run.name}/{key}_{number}") is not None:
            run.compare(f"{key}_{number}", np.array(box.as_tuple()))
    pixels = recorded.get(number)
    frame = steps.blended(run.frames[row], _mask(run, row), face, crop, run.face(number) if pixels is None else pixels)
    x1, y1, x2, y2 = run.recorded(f"final_box_{number}").tolist()
    if pixels is not None:
        run.compare(f"final_{number}", frame[y1:y2, x1:x2])
    else:
        run.compare_pixels(f"final_{number}", frame[y1:y2, x1:x2])
