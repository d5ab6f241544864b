"""The mouth by signal processing: a linear map of the sound around a frame, a voice gate, and closures.

The map (training/mouth/ridge.py) was fitted on GRID (Cooke et al. 2006, CC BY 4.0) and, with a small
weight, on LRC-AR lip-reading clips; see training/mouth/MODEL_CARD.md.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np

from warmtalk.core.mouth import LEAST, MOST
from warmtalk.core.types import FrameClock, Samples
from warmtalk.models.mouth.audio_features import (
    BANDS,
    FEATURES,
    HOP,
    WINDOW,
    Floats,
    LogMelExtractor,
    MelFrame,
    NormalizedFeatures,
)
from warmtalk.models.mouth.stream import LOOKAHEAD, MouthStream
from warmtalk.models.mouth.voice_gate import VoiceGate

_POOLED = 4
"""Rows averaged into one cell of the context: 40 ms."""
_CELLS = 9
"""Cells of the context, the last ending LOOKAHEAD - SETTLE rows after the frame."""
_BLOCKED = np.zeros(BANDS, np.float32)
"""Weights of the bands that shut lips and a blocked mouth take away, nasals included: 700 to 4000 Hz, and
600 to 1500 Hz again, where a nasal is weak and an "ee", weak there too, is told from it by the rest."""
_BLOCKED[9:25] += 0.5 / 16
_BLOCKED[8:14] += 0.5 / 6
_DIP_ROWS = 12
"""Rows on each side whose loudest a dip is measured against."""
_DIP_DB = (15.0, 28.0)
"""Dip where lips start to close and where they are shut."""
_LIVELY = np.array([1.5, 1.5], np.float32)
"""A least-squares map shrinks what it is unsure of; this gives the motion its real size back."""
_SHUT = 0.008
"""Opening that is taken for none, so that doubt does not leave the lips ajar."""
_ROUND_WIDTH = -0.12
"""Width at which lips are fully pushed forward."""
_PRESS_OPENING = 0.08
"""Opening above which a dip is a tongue's, not the lips'."""


class Context:
    """The loudness-free sound around a row. One utterance."""

    def __init__(self) -> None:
        self._relative = NormalizedFeatures()
        self._rows = np.tile(NormalizedFeatures.SILENCE, (_CELLS * _POOLED, 1))

    def push_row(self, row: MelFrame) -> bool:
        """Takes the next row; True when it is voice."""
        voiced, settled = self._relative.push_row(row)
        self._rows[:-1] = self._rows[1:]
        self._rows[-1] = settled
        return voiced

    def cells(self) -> Floats:
        """[_CELLS * FEATURES] around the row LOOKAHEAD before the last one heard."""
        cells: Floats = self._rows.reshape(_CELLS, _POOLED, FEATURES).mean(axis=1)
        return cells.ravel()


def contexts(samples: Samples) -> Floats:
    """[len(samples) // HOP, cells] for fitting: row h is the context of row h."""
    context, ear = Context(), LogMelExtractor()
    rows = []
    for row in ear.push_audio(np.concatenate([samples, np.zeros(LOOKAHEAD * HOP + WINDOW, np.float32)])):
        context.push_row(row)
        rows.append(context.cells())
    return np.array(rows[LOOKAHEAD : LOOKAHEAD + len(samples) // HOP], np.float32)


class MouthFromSound:
    """A SpeechEncoder whose features are mouth shapes (core.mouth). Holds no state of a stream; any thread."""

    def __init__(self, weights: Path) -> None:
        """`weights` is what ridge.py writes."""
        with np.load(weights) as arrays:
            self._weight, self._bias = arrays["weight"], arrays["bias"]

    def start_stream(self, clock: FrameClock) -> MouthStream:
        return MouthStream(clock, _LinearPredictor(self._weight, self._bias))


class _LinearPredictor:
    def __init__(self, weight: Floats, bias: Floats) -> None:
        self._weight, self._bias = weight, bias
        self._context = Context()
        self._gate = VoiceGate()
        self._middle = deque([-200.0] * (LOOKAHEAD + _DIP_ROWS), maxlen=LOOKAHEAD + _DIP_ROWS)

    def push_row(self, row: MelFrame) -> Floats:
        gate = self._gate.update(self._context.push_row(row))
        self._middle.append(float(row.bands_db @ _BLOCKED))
        opening, width = (self._context.cells() @ self._weight + self._bias) * _LIVELY * gate - (_SHUT, 0.0)
        closure = self._closure()
        press = gate * closure * max(0.0, 1.0 - opening / _PRESS_OPENING)
        shape = np.array([opening * (1.0 - closure), width, width / _ROUND_WIDTH, press], np.float32)
        return np.clip(shape, LEAST, MOST)

    def _closure(self) -> float:
        """0 to 1: how deep the middle of the spectrum dips here against its surroundings."""
        here = self._middle[len(self._middle) - 1 - LOOKAHEAD]
        dip = max(self._middle) - here
        return min(1.0, max(0.0, (dip - _DIP_DB[0]) / (_DIP_DB[1] - _DIP_DB[0])))
