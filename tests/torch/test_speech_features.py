"""Streaming features: the same however the sound is cut, near the offline ones, exact where the context is."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.torch.conftest import CPU
from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import Features, FrameClock, Samples
from warmtalk.models.speech_features import PIECE_SAMPLES, WhisperFeatures
from warmtalk.models.whisper import WhisperEncoder

BOUND_RMS = 0.035
"""Of the golden clip: root mean square of (streaming - offline) / offline. Measured 0.024 to 0.029."""


def streamed(
    features: WhisperFeatures, sound: Samples, pieces: list[int], fps: Fraction = Fraction(25)
) -> list[Features]:
    stream = features.start_stream(FrameClock(fps))
    ends = np.cumsum(pieces).tolist()
    parts = [stream.accept(part) for part in np.split(sound, [end for end in ends if end < len(sound)])]
    return [*parts, stream.finish()]


def test_pieces_of_any_size_give_the_same_features(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    sound = speech[:7000]
    whole = np.concatenate(streamed(features, sound, []))
    assert whole.shape == (11, 50, 384)
    for pieces in ([1, 700, 1279, 3000, 5], [PIECE_SAMPLES] * 20):
        assert np.array_equal(np.concatenate(streamed(features, sound, pieces)), whole)


def test_frames_come_when_their_window_is_complete(encoder: WhisperEncoder, speech: Samples) -> None:
    for lookahead in (2, 3):
        counts = [
            len(part)
            for part in streamed(WhisperFeatures(encoder, CPU, lookahead=lookahead), speech[:7680], [1280] * 6)
        ]
        ready = [0] * (lookahead - 1) + [2] * (6 - lookahead + 1)
        assert counts[:6] == ready
        assert sum(counts) == 12


def test_streaming_is_near_offline(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    offline = features.reference(speech, 25)
    online = np.concatenate(streamed(features, speech, [PIECE_SAMPLES] * 20))[: len(offline)]
    error = np.sqrt(((online - offline) ** 2).mean() / (offline**2).mean())
    assert error < BOUND_RMS


def test_where_the_context_is_the_same_so_are_the_features(encoder: WhisperEncoder, speech: Samples) -> None:
    """The last frames are drawn with all of the sound heard; what is left is the floor of the quiet parts."""
    features = WhisperFeatures(encoder, CPU)
    loudest = float(features.log_mel(speech).max()) * 4 - 4
    assert np.abs(features.encode([speech], loudest=loudest)[0] - features.states(speech)).max() < 2e-5


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(10), Fraction(50)])
def test_every_rate_gives_every_frame(encoder: WhisperEncoder, speech: Samples, fps: Fraction) -> None:
    found = np.concatenate(streamed(WhisperFeatures(encoder, CPU), speech[:6400], [1280] * 5, fps))
    assert len(found) == FrameClock(fps).frames_for(6400, 16_000)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (100, 1), (1279, 2)])
def test_sound_shorter_than_a_piece(encoder: WhisperEncoder, speech: Samples, samples: int, frames: int) -> None:
    found = np.concatenate(streamed(WhisperFeatures(encoder, CPU), speech[:samples], []))
    assert found.shape == (frames, 50, 384)
    assert np.isfinite(found).all()


class Listening(WhisperFeatures):
    """Notes how much each pass hears, and hears nothing."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__(encoder, CPU)
        self.heard: list[int] = []

    def encode(self, sounds: list[Samples], *, loudest: float = 0.0) -> Features:
        self.heard += [len(sound) for sound in sounds]
        return np.zeros((len(sounds), 1500, 5, 384), np.float32)


def test_after_30_s_at_least_10_s_are_still_heard(encoder: WhisperEncoder) -> None:
    features = Listening(encoder)
    minute = np.zeros(75 * 16_000 + 100, np.float32)
    frames = np.concatenate(streamed(features, minute, [16_000] * 80))
    assert len(frames) == FrameClock().frames_for(len(minute), 16_000)
    assert max(features.heard) <= 480_000
    late = features.heard[400:]
    assert min(late) >= 160_000


def test_a_lookahead_that_hears_too_little(encoder: WhisperEncoder) -> None:
    with pytest.raises(InvalidInput, match="lookahead is 1"):
        WhisperFeatures(encoder, CPU, lookahead=1)
