"""The trained mouth encoder: a small convolutional network in numpy, with level-normalised input and a voice gate.

Training, data, figures and limits: training/mouth/MODEL_CARD.md. The weights were trained at 50 rows a second. Here
every dilation is doubled, so that the same network produces 100 rows a second.
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
"""Dilations in steps of 20 ms, as trained."""
TAPS = 3
_SCALE = np.array([0.085, 0.06, 0.3], np.float32)
"""Units of the first three outputs."""
_GAIN, _WIDTH_GAIN = 1.5, 1.9
"""Gain that restores the real size of the motion. A least-squares prediction shrinks uncertain outputs, and the width
is less certain than the other outputs."""
_MIN_OPENING = 0.004
"""Opening that counts as closed, so that an uncertain prediction does not leave the lips ajar."""
_CLOSURE_RANGE = (0.42, 0.77)
"""Likelihood of pressed lips at which the lips begin to close, and at which the lips are shut."""


class Network:
    """Weights of the network. Immutable; shared by all streams and threads."""

    def __init__(self, path: Path) -> None:
        """Raises Damaged when the file does not contain the weights of this network."""
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
    """Reshapes [taps, in, out] to [taps * in, out]."""
    return np.ascontiguousarray(kernel.reshape(-1, kernel.shape[2]))


class NetworkStream:
    """State of the network for one utterance, row by row. The result does not depend on the chunk boundaries."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._previous = NormalizedFeatures.SILENCE
        self._pasts = [np.zeros((0, 0), np.float32)] * len(DILATIONS)
        self._fill(NormalizedFeatures.SILENCE)

    def push_row(self, row: Floats) -> Floats:
        """Takes the next [FEATURES] row at 100 Hz. Returns [4] raw outputs for the row 10 rows earlier."""
        x = self._first_layer((self._previous + row) * np.float32(0.5))
        self._previous = row
        for past, (weight, bias), dilation in zip(self._pasts, self._network.blocks, DILATIONS, strict=True):
            past[:-1] = past[1:]
            past[-1] = x
            x = x + np.maximum(past[:: 2 * dilation].ravel() @ weight + bias, 0)
        return self._last_layer(x)

    def _fill(self, row: Floats) -> None:
        """Sets the state after an infinite repetition of `row`."""
        x = self._first_layer(row)
        for k, ((weight, bias), dilation) in enumerate(zip(self._network.blocks, DILATIONS, strict=True)):
            self._pasts[k] = np.tile(x, (2 * dilation * (TAPS - 1) + 1, 1))
            x = x + np.maximum(np.tile(x, TAPS) @ weight + bias, 0)

    def _first_layer(self, row: Floats) -> Floats:
        weight, bias = self._network.first
        activations: Floats = np.maximum((row - self._network.centre) / self._network.spread @ weight + bias, 0)
        return activations

    def _last_layer(self, x: Floats) -> Floats:
        weight, bias = self._network.last
        outputs: Floats = x @ weight + bias
        return outputs


class TrainedMouth:
    """Implementation of core.ports.SpeechEncoder with mouth shapes (core.mouth) as features. Immutable, any thread."""

    def __init__(self, weights: Path | None = None) -> None:
        """Loads `weights`, or the weights of the package for None. Raises Damaged."""
        with as_file(files("warmtalk.models") / "data" / "mouth_net.safetensors") as packaged:
            self._network = Network(weights or packaged)

    def start_stream(self, clock: FrameClock) -> MouthStream:
        """Returns the state of one utterance."""
        return MouthStream(clock, _NetworkPredictor(self._network))


class _NetworkPredictor:
    """Implementation of MouthPredictor: normalisation, network and voice gate of one utterance."""

    def __init__(self, network: Network) -> None:
        self._stream = NetworkStream(network)
        self._features = NormalizedFeatures()
        self._gate = VoiceGate()
        self._outputs = self._stream.push_row(NormalizedFeatures.SILENCE)
        self._rows_to_skip = SETTLE

    def push_row(self, row: MelFrame) -> Floats:
        voiced, features = self._features.push_row(row)
        gate = self._gate.update(voiced)
        if self._rows_to_skip > 0:  # the output of NormalizedFeatures is delayed: these features precede the audio
            self._rows_to_skip -= 1
            return np.zeros(MOUTH_FEATURES, np.float32)
        outputs = self._stream.push_row(features)
        # Odd and even rows take different paths through the doubled dilations: the mean of two rows has no ripple.
        smooth, self._outputs = (self._outputs + outputs) * np.float32(0.5), outputs
        return shape_of(smooth, gate)


def shape_of(outputs: Floats, gate: float) -> Floats:
    """Converts raw outputs to a features row (core.mouth) in the valid range; exactly closed where `gate` is 0."""
    opening, width, protrusion = outputs[:3] * _SCALE * np.float32(gate)
    press = gate / (1.0 + exp(-float(outputs[3])))
    closure = min(1.0, max(0.0, (press - _CLOSURE_RANGE[0]) / (_CLOSURE_RANGE[1] - _CLOSURE_RANGE[0])))
    opening = (opening * _GAIN - _MIN_OPENING) * (1.0 - closure)
    return np.clip(
        np.array([opening, width * _WIDTH_GAIN, protrusion * _GAIN, press], np.float32), MIN_SHAPE, MAX_SHAPE
    )
