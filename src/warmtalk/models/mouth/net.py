"""The trained mouth: a small convolutional network in numpy, fed by loudness-free sound, behind a voice gate.

Training, data, figures and limits: training/mouth/MODEL_CARD.md. The weights were trained at 50 rows a second; here
every dilation is doubled, so that the same network answers 100 times a second.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from math import exp
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from warmtalk.core.errors import Damaged
from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, MOUTH_FEATURES
from warmtalk.core.types import FrameClock
from warmtalk.models.mouth.audio_features import SETTLE, Floats, MelFrame, NormalizedFeatures
from warmtalk.models.mouth.stream import MouthStream
from warmtalk.models.mouth.voice_gate import VoiceGate

DILATIONS = (1, 1, 2, 4, 4)
"""In steps of 20 ms, as trained."""
TAPS = 3
_SCALE = np.array([0.085, 0.06, 0.3], np.float32)
"""Units of the first three outputs."""
_LIVELY, _LIVELY_WIDTH = 1.5, 1.9
"""A least-squares answer shrinks what it is unsure of; this gives the motion its real size back. It is less sure of the
width than of the rest."""
_SHUT = 0.004
"""Opening that is taken for none, so that doubt does not leave the lips ajar."""
_PRESSED = (0.42, 0.77)
"""Likelihood of pressed lips from which on they close, and at which they are shut."""


class Network:
    """Weights only; shared by all streams, any thread."""

    def __init__(self, path: Path) -> None:
        """Raises Damaged when the file does not hold this network."""
        try:
            arrays = load_file(path)
            self.centre, self.spread = arrays["centre"], arrays["spread"]
            self.first = arrays["first.weight"][0], arrays["first.bias"]
            blocks = range(len(DILATIONS))
            self.blocks = [(_flat(arrays[f"blocks.{k}.weight"]), arrays[f"blocks.{k}.bias"]) for k in blocks]
            self.last = arrays["last.weight"][0], arrays["last.bias"]
        except Exception as error:  # safetensors raises its own type, OSError or KeyError by cause
            raise Damaged(f"{path.name} does not hold the weights of the mouth network: {error}") from error


def _flat(kernel: Floats) -> Floats:
    """[taps, in, out] to [taps * in, out]."""
    return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[2]))


class NetworkStream:
    """The network along one utterance, row by row: the numbers do not depend on how the sound was cut."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._previous = NormalizedFeatures.QUIET
        self._pasts = [np.zeros((0, 0), np.float32)] * len(DILATIONS)
        self._fill(NormalizedFeatures.QUIET)

    def hear(self, row: Floats) -> Floats:
        """Takes the next [FEATURES] row at 100 Hz; [4] raw outputs for the row AHEAD_HOPS (10) before it."""
        x = self._enter((self._previous + row) * np.float32(0.5))
        self._previous = row
        for past, (weight, bias), dilation in zip(self._pasts, self._network.blocks, DILATIONS, strict=True):
            past[:-1] = past[1:]
            past[-1] = x
            x = x + np.maximum(past[:: 2 * dilation].ravel() @ weight + bias, 0)
        return self._leave(x)

    def _fill(self, row: Floats) -> None:
        """The state after this row alone was heard for ever."""
        x = self._enter(row)
        for k, ((weight, bias), dilation) in enumerate(zip(self._network.blocks, DILATIONS, strict=True)):
            self._pasts[k] = np.tile(x, (2 * dilation * (TAPS - 1) + 1, 1))
            x = x + np.maximum(np.tile(x, TAPS) @ weight + bias, 0)

    def _enter(self, row: Floats) -> Floats:
        weight, bias = self._network.first
        entered: Floats = np.maximum((row - self._network.centre) / self._network.spread @ weight + bias, 0)
        return entered

    def _leave(self, x: Floats) -> Floats:
        weight, bias = self._network.last
        outputs: Floats = x @ weight + bias
        return outputs


class TrainedMouth:
    """A SpeechEncoder whose features are mouth shapes (core.mouth). Holds no state of a stream; any thread."""

    def __init__(self, weights: Path | None = None) -> None:
        """The package's own weights unless others are given. Raises Damaged."""
        with as_file(files("warmtalk.models") / "data" / "mouth_net.safetensors") as packaged:
            self._network = Network(weights or packaged)

    def start_stream(self, clock: FrameClock) -> MouthStream:
        return MouthStream(clock, _Reader(self._network))


class _Reader:
    def __init__(self, network: Network) -> None:
        self._stream = NetworkStream(network)
        self._sound = NormalizedFeatures()
        self._gate = VoiceGate()
        self._outputs = self._stream.hear(NormalizedFeatures.QUIET)
        self._unheard = SETTLE

    def read(self, row: MelFrame) -> Floats:
        voiced, settled = self._sound.hear(row)
        gate = self._gate.hear(voiced)
        if self._unheard > 0:  # the loudness has not settled: what came out is no row of the sound
            self._unheard -= 1
            return np.zeros(MOUTH_FEATURES, np.float32)
        outputs = self._stream.hear(settled)
        # Every second row takes a path of its own through the dilations: the mean of two has no ripple.
        smooth, self._outputs = (self._outputs + outputs) * np.float32(0.5), outputs
        return shape_of(smooth, gate)


def shape_of(outputs: Floats, gate: float) -> Floats:
    """Raw outputs to a mouth in range; exactly closed where the gate is 0."""
    opening, width, protrusion = outputs[:3] * _SCALE * np.float32(gate)
    press = gate / (1.0 + exp(-float(outputs[3])))
    closure = min(1.0, max(0.0, (press - _PRESSED[0]) / (_PRESSED[1] - _PRESSED[0])))
    open_by = (opening * _LIVELY - _SHUT) * (1.0 - closure)
    return np.clip(
        np.array([open_by, width * _LIVELY_WIDTH, protrusion * _LIVELY, press], np.float32), MIN_SHAPE, MAX_SHAPE
    )
