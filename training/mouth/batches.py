"""Convert clips to training batches: run-time audio features with augmentation, and mouth targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.mouth.corpus import FPS, Clip, Floats, pressed
from training.mouth.net import AHEAD_HOPS, SCALE
from warmtalk.models.mouth.audio_features import BANDS, HOP, SETTLE, WINDOW, LogMelExtractor, NormalizedFeatures
from warmtalk.models.mouth.stream import LOOKAHEAD
from warmtalk.models.mouth.voice_gate import VoiceGate

ROUND_WIDTH = -0.12
"""Width at which lips count as fully rounded."""
HOPS_PER_FRAME = 100 // FPS


@dataclass(slots=True)
class Example:
    """Features and targets of one clip."""

    clip: Clip
    features: Floats
    """[hops, FEATURES] at 100 Hz; the silence after the clip is included."""
    targets: Floats
    """[T, 4] opening, width and protrusion over SCALE, press as 0 to 1."""
    speaks: Floats
    """[T] voice gate; 0 in silence."""


def example(clip: Clip) -> Example:
    sound, gate = NormalizedFeatures(), VoiceGate()
    rows, gates = [], []
    tail = np.zeros((LOOKAHEAD + AHEAD_HOPS) * HOP + WINDOW, np.float32)
    for row in LogMelExtractor().push_audio(np.concatenate([clip.samples, tail])):
        voiced, settled = sound.push_row(row)
        rows.append(settled)
        gates.append(gate.update(voiced))
    hops = np.arange(len(clip.opening)) * HOPS_PER_FRAME + HOPS_PER_FRAME // 2 + LOOKAHEAD
    speaks = np.array(gates, np.float32)[np.minimum(hops, len(gates) - 1)]
    return Example(clip, np.array(rows[SETTLE:], np.float32), _targets(clip, speaks), speaks)


def _targets(clip: Clip, speaks: Floats) -> Floats:
    """Returns [T, 4] targets. In silence the mouth is closed and at rest, whatever the speaker did: breath and waiting
    are inaudible."""
    shut, still = pressed(clip) * speaks, clip.opening * speaks
    rounded = np.clip(clip.width / ROUND_WIDTH, 0.0, 1.0)
    return np.stack([still / SCALE[0], clip.width * speaks / SCALE[1], rounded * speaks / SCALE[2], shut], axis=1)


@dataclass(slots=True)
class Batch:
    features: Tensor
    """[batch, FEATURES, steps] at 50 Hz."""
    steps: Tensor
    """[batch, T] output step of each frame; whole, or halfway between two steps."""
    targets: Tensor
    """[batch, T, 4]"""
    weight: Tensor
    """[batch, T] loss weight; 0 for padding and for frames without a face."""
    speaks: Tensor
    """[batch, T]"""
    loose: Tensor
    """[batch] True where audio and video may be a frame apart."""


def batches(examples: list[Example], size: int, seed: int) -> Iterator[Batch]:
    """Yields every example once, shuffled and augmented."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(examples))
    for start in range(0, len(order), size):
        yield batch([examples[i] for i in order[start : start + size]], rng)


def batch(examples: list[Example], rng: np.random.Generator | None = None) -> Batch:
    """Pads the examples to the longest; augments them when `rng` is given."""
    phase = int(rng.integers(2)) if rng is not None else 1
    features = [halved(augmented(e.features, rng) if rng is not None else e.features, phase) for e in examples]
    steps, frames = max(map(len, features)), max(len(e.targets) for e in examples)
    sound = np.tile(NormalizedFeatures.SILENCE, (len(features), steps, 1))
    targets, weight, speaks = (np.zeros((len(features), frames, *rest), np.float32) for rest in ((4,), (), ()))
    for k, (rows, e) in enumerate(zip(features, examples, strict=True)):
        sound[k, : len(rows)] = rows
        targets[k, : len(e.targets)] = e.targets
        weight[k, : len(e.targets)] = e.clip.ok
        speaks[k, : len(e.targets)] = e.speaks
    hops = np.arange(frames) * HOPS_PER_FRAME + HOPS_PER_FRAME // 2 + AHEAD_HOPS
    at = np.tile((hops - 1 + phase) / 2, (len(features), 1))
    loose = np.array([e.clip.corpus == "lrwar_arabic" for e in examples])
    return Batch(
        torch.from_numpy(np.ascontiguousarray(sound.transpose(0, 2, 1))),
        *map(torch.from_numpy, (at, targets, weight, speaks, loose)),
    )


def halved(rows: Floats, phase: int) -> Floats:
    """Halves the rate, [hops, n] at 100 Hz to 50 Hz. Step s is the mean of the rows 2 s - phase and 2 s - phase + 1,
    after one row of silence for phase 1."""
    led = np.concatenate([NormalizedFeatures.SILENCE[None], rows]) if phase else rows
    steps = len(led) // 2
    pairs: Floats = led[: 2 * steps].reshape(steps, 2, -1).mean(axis=1)
    return pairs


def augmented(features: Floats, rng: np.random.Generator) -> Floats:
    """Augments features in the log-mel domain: vocal tract length, microphone colour, level and room noise.

    All changes are mild, because mouth shapes differ by a few decibels in a few bands."""
    voicing = features[:, BANDS:]
    bands: npt.NDArray[np.floating[Any]] = _warped(features[:, :BANDS], BAND_SHIFT * float(rng.standard_normal()))
    bands = bands + _coloured(rng) + np.float32(LEVEL * rng.standard_normal())
    if rng.random() < NOISY:
        noise = rng.uniform(*NOISE) + _coloured(rng)
        bands = np.logaddexp(bands * _NEPERS, noise * _NEPERS) / _NEPERS
    bands = np.clip(bands, NormalizedFeatures.SILENCE[0], 1.0)
    return np.concatenate([bands, voicing], axis=1).astype(np.float32)


BAND_SHIFT = 0.35
"""Standard deviation of the vocal tract warp. Bands."""
LEVEL = 0.05
COLOUR = 0.04
"""Standard deviations of the level and of each of four cosines over the bands. Units of 20 dB."""
NOISY = 0.25
NOISE = (-2.5, -1.3)
"""Share of noisy clips, and range of the noise level of a band relative to the voice. Units of 20 dB."""
_NEPERS = NormalizedFeatures.UNIT_DB * np.log(10.0) / 10.0
_CURVES = np.array([[np.cos(np.pi * k * (b + 0.5) / BANDS) for b in range(BANDS)] for k in range(1, 5)])


def _coloured(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Returns a random smooth frequency response, [BANDS]."""
    curve: npt.NDArray[np.float64] = COLOUR * rng.standard_normal(4) @ _CURVES
    return curve


def _warped(bands: Floats, shift: float) -> Floats:
    """Shifts all formants by `shift` bands."""
    positions = np.clip(np.arange(BANDS) + shift, 0, BANDS - 1)
    low = np.minimum(positions.astype(int), BANDS - 2)
    share = (positions - low).astype(np.float32)
    warped: Floats = bands[:, low] * (1 - share) + bands[:, low + 1] * share
    return warped
