"""Predict the mouth by signal processing: a linear map of audio features, a voice gate and closure detection.

The map (training/mouth/ridge.py) was fitted on GRID (Cooke et al. 2006, CC BY 4.0) and, with a small
weight, on LRC-AR lip-reading clips; see training/mouth/MODEL_CARD.md.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np

from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE
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
"""Rows averaged into one cell of the context (40 ms)."""
_CELLS = 9
"""Cells of the context; the last cell ends LOOKAHEAD - SETTLE rows after the frame."""
_BLOCKED = np.zeros(BANDS, np.float32)
"""Band weights of the closure detector. Closed lips, nasals included, attenuate 700 to 4000 Hz. 600 to 1500 Hz counts
twice: a nasal is weak there; "ee" is weak there too and differs in the other bands."""
_BLOCKED[9:25] += 0.5 / 16
_BLOCKED[8:14] += 0.5 / 6
_DIP_ROWS = 12
"""Rows on each side; a dip is measured relative to their loudest row."""
_DIP_DB = (15.0, 28.0)
"""Depth of the dip at which lips start to close, and at which lips are shut."""
_LIVELY = np.array([1.5, 1.5], np.float32)
"""Gain that restores the amplitude; least squares shrinks uncertain outputs."""
_SHUT = 0.008
"""Opening that counts as closed, so that uncertainty does not leave the lips ajar."""
_ROUND_WIDTH = -0.12
"""Width of fully protruded lips."""
_PRESS_OPENING = 0.08
"""Opening above which a dip comes from the tongue, not from the lips."""


class Context:
    """Loudness-normalised features around a row, for one utterance."""

    def __init__(self) -> None:
        self._relative = NormalizedFeatures()
        self._rows = np.tile(NormalizedFeatures.SILENCE, (_CELLS * _POOLED, 1))

    def push_row(self, row: MelFrame) -> bool:
        """Adds the next row. Returns True for voice."""
        voiced, settled = self._relative.push_row(row)
        self._rows[:-1] = self._rows[1:]
        self._rows[-1] = settled
        return voiced

    def cells(self) -> Floats:
        """Returns [_CELLS * FEATURES] around the row LOOKAHEAD rows before the newest."""
        cells: Floats = self._rows.reshape(_CELLS, _POOLED, FEATURES).mean(axis=1)
        return cells.ravel()


def contexts(samples: Samples) -> Floats:
    """Returns [len(samples) // HOP, cells] for fitting; row h is the context of hop h."""
    context, extractor = Context(), LogMelExtractor()
    rows = []
    for row in extractor.push_audio(np.concatenate([samples, np.zeros(LOOKAHEAD * HOP + WINDOW, np.float32)])):
        context.push_row(row)
        rows.append(context.cells())
    return np.array(rows[LOOKAHEAD : LOOKAHEAD + len(samples) // HOP], np.float32)


class MouthFromSound:
    """SpeechEncoder with mouth shapes (core.mouth) as features. Holds no stream state; safe on any thread."""

    def __init__(self, weights: Path) -> None:
        """`weights` is a file written by ridge.py."""
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
        return np.clip(shape, MIN_SHAPE, MAX_SHAPE)

    def _closure(self) -> float:
        """Returns 0 to 1: depth of the dip in the middle of the spectrum relative to the surrounding rows."""
        here = self._middle[len(self._middle) - 1 - LOOKAHEAD]
        dip = max(self._middle) - here
        return min(1.0, max(0.0, (dip - _DIP_DB[0]) / (_DIP_DB[1] - _DIP_DB[0])))
