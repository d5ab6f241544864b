"""Clips to batches: the sound as the run time hears it, made different every time, and the mouth to learn."""

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
    """A clip as the network sees it."""

    clip: Clip
    heard: Floats
    """[hops, FEATURES] at 100 Hz, going on into the silence after the clip."""
    targets: Floats
    """[T, 4] opening, width and protrusion over SCALE, press as 0 to 1."""
    speaks: Floats
    """[T] the voice gate: 0 in silence."""


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
    """Silence is closed and at rest, whatever this speaker did there: breath and waiting cannot be heard."""
    shut, still = pressed(clip) * speaks, clip.opening * speaks
    rounded = np.clip(clip.width / ROUND_WIDTH, 0.0, 1.0)
    return np.stack([still / SCALE[0], clip.width * speaks / SCALE[1], rounded * speaks / SCALE[2], shut], axis=1)


@dataclass(slots=True)
class Batch:
    heard: Tensor
    """[batch, FEATURES, steps] at 50 Hz."""
    steps: Tensor
    """[batch, T] the step, whole or halfway between two, that answers for a frame."""
    targets: Tensor
    """[batch, T, 4]"""
    weight: Tensor
    """[batch, T] 0 where there is no frame, or no face was found."""
    speaks: Tensor
    """[batch, T]"""
    loose: Tensor
    """[batch] True where sound and picture may be a frame apart."""


def batches(examples: list[Example], size: int, seed: int) -> Iterator[Batch]:
    """All examples once, shuffled and varied."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(examples))
    for start in range(0, len(order), size):
        yield batch([examples[i] for i in order[start : start + size]], rng)


def batch(examples: list[Example], rng: np.random.Generator | None = None) -> Batch:
    """Pads to the longest; varied when a generator is given."""
    phase = int(rng.integers(2)) if rng is not None else 1
    heard = [halved(varied(e.heard, rng) if rng is not None else e.heard, phase) for e in examples]
    steps, frames = max(map(len, heard)), max(len(e.targets) for e in examples)
    sound = np.tile(NormalizedFeatures.SILENCE, (len(heard), steps, 1))
    targets, weight, speaks = (np.zeros((len(heard), frames, *rest), np.float32) for rest in ((4,), (), ()))
    for k, (rows, e) in enumerate(zip(heard, examples, strict=True)):
        sound[k, : len(rows)] = rows
        targets[k, : len(e.targets)] = e.targets
        weight[k, : len(e.targets)] = e.clip.ok
        speaks[k, : len(e.targets)] = e.speaks
    hops = np.arange(frames) * HOPS_PER_FRAME + HOPS_PER_FRAME // 2 + AHEAD_HOPS
    at = np.tile((hops - 1 + phase) / 2, (len(heard), 1))
    loose = np.array([e.clip.corpus == "lrwar_arabic" for e in examples])
    return Batch(
        torch.from_numpy(np.ascontiguousarray(sound.transpose(0, 2, 1))),
        *map(torch.from_numpy, (at, targets, weight, speaks, loose)),
    )


def halved(rows: Floats, phase: int) -> Floats:
    """[hops, n] at 100 Hz to 50 Hz: step s is the mean of the rows 2 s - phase and the next; first comes silence."""
    led = np.concatenate([NormalizedFeatures.SILENCE[None], rows]) if phase else rows
    steps = len(led) // 2
    pairs: Floats = led[: 2 * steps].reshape(steps, 2, -1).mean(axis=1)
    return pairs


def varied(heard: Floats, rng: np.random.Generator) -> Floats:
    """Another voice tract, microphone, level and room noise, in the log-mel domain, all of them mild: what
    tells the shape of the mouth is a few decibels in a few bands."""
    voicing = heard[:, BANDS:]
    bands: npt.NDArray[np.floating[Any]] = _warped(heard[:, :BANDS], BAND_SHIFT * float(rng.standard_normal()))
    bands = bands + _coloured(rng) + np.float32(LEVEL * rng.standard_normal())
    if rng.random() < NOISY:
        noise = rng.uniform(*NOISE) + _coloured(rng)
        bands = np.logaddexp(bands * _NEPERS, noise * _NEPERS) / _NEPERS
    bands = np.clip(bands, NormalizedFeatures.SILENCE[0], 1.0)
    return np.concatenate([bands, voicing], axis=1).astype(np.float32)


BAND_SHIFT = 0.35
"""Standard deviation, in bands."""
LEVEL = 0.05
COLOUR = 0.04
"""Standard deviations of the level and of each of four cosines over the bands; in units of 20 dB."""
NOISY = 0.25
NOISE = (-2.5, -1.3)
"""Share of noisy clips, and the noise's level in a band against the voice, in units of 20 dB."""
_NEPERS = NormalizedFeatures.UNIT_DB * np.log(10.0) / 10.0
_CURVES = np.array([[np.cos(np.pi * k * (b + 0.5) / BANDS) for b in range(BANDS)] for k in range(1, 5)])


def _coloured(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """[BANDS] a smooth frequency response, of chance."""
    curve: npt.NDArray[np.float64] = COLOUR * rng.standard_normal(4) @ _CURVES
    return curve


def _warped(bands: Floats, shift: float) -> Floats:
    """All formants moved by a share of a band."""
    places = np.clip(np.arange(BANDS) + shift, 0, BANDS - 1)
    low = np.minimum(places.astype(int), BANDS - 2)
    share = (places - low).astype(np.float32)
    warped: Floats = bands[:, low] * (1 - share) + bands[:, low + 1] * share
    return warped
