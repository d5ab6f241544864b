"""Streaming features: those of the reference where the sound is there, near them where it trickles in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.torch.conftest import CPU
from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import LookaheadStream, SpeechEncoder
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.core.types import Features, FrameClock, Samples
from warmtalk.core.windows import IndexMap
from warmtalk.models.musetalk.speech_features import PIECE_SAMPLES, WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder

BOUND_RMS = 0.07
"""Of the golden clip as it trickles in: root mean square of (streaming - reference) / reference. Measured 0.057:
random weights attend to everything alike, so a guess at the future moves them more than it does real ones."""


def streamed(
    features: SpeechEncoder, sound: Samples, pieces: list[int], fps: Fraction = Fraction(25)
) -> list[Features]:
    stream = features.start_stream(FrameClock(fps))
    ends = np.cumsum(pieces).tolist()
    parts = [stream.push_audio(part) for part in np.split(sound, [end for end in ends if end < len(sound)])]
    return [*parts, stream.finish()]


def distance(found: Features, wanted: Features) -> float:
    return float(np.sqrt(((found[: len(wanted)] - wanted) ** 2).mean() / (wanted**2).mean()))


def shown(features: SpeechEncoder, sound: Samples, ahead: int = 1 << 30, slice_samples: int = 8000) -> Features:
    """In slices, after a look at `ahead` samples from each slice on."""
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    rows = []
    for begin in range(0, len(sound), slice_samples):
        stream.look_ahead(sound[begin : begin + ahead], last=begin + ahead >= len(sound))
        rows.append(stream.push_audio(sound[begin : begin + slice_samples]))
    return np.concatenate([*rows, stream.finish()])


def test_sound_that_is_there_gives_the_reference_s_features(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    offline = features.reference(speech, 25)
    for slice_samples in (5000, len(speech)):
        found = shown(features, speech, slice_samples=slice_samples)
        assert len(found) == FrameClock().frames_for(len(speech), 16_000)
        assert np.abs(found[: len(offline)] - offline).max() < 2e-5


def test_the_more_is_there_the_nearer(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    offline = features.reference(speech, 25)
    found = [distance(shown(features, speech, ahead, 3200), offline) for ahead in (3200, 9600, len(speech))]
    assert BOUND_RMS > found[0] > found[1] > found[2]


def test_pieces_of_any_size_give_as_many_frames_at_the_same_time(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    sound = speech[:7000]
    whole = np.concatenate(streamed(features, sound, []))
    assert whole.shape == (11, 50, 384)
    for pieces in ([1, 700, 1279, 3000, 5], [320] * 20):
        found = streamed(features, sound, pieces)
        assert np.concatenate(found).shape == whole.shape
        for heard, frames in zip(np.cumsum(pieces), np.cumsum([len(part) for part in found]), strict=False):
            assert frames == 2 * max(0, min(heard, len(sound)) // PIECE_SAMPLES - 1)


def test_frames_come_when_their_window_is_complete(encoder: WhisperEncoder, speech: Samples) -> None:
    for lookahead in (2, 3):
        counts = [
            len(part)
            for part in streamed(WhisperFeatures(encoder, CPU, lookahead=lookahead), speech[:7680], [1280] * 6)
        ]
        ready = [0] * (lookahead - 1) + [2] * (6 - lookahead + 1)
        assert counts[:6] == ready
        assert sum(counts) == 12


def test_what_trickles_in_is_near_the_reference(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    online = np.concatenate(streamed(features, speech, [PIECE_SAMPLES] * 20))
    assert distance(online, features.reference(speech, 25)) < BOUND_RMS


def test_the_row_of_silence_is_that_of_silence(encoder: WhisperEncoder) -> None:
    features = WhisperFeatures(encoder, CPU)
    quiet = shown(features, np.zeros(9600, np.float32))
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    for frame in (0, 1, 6, 12):  # the last two see zeros behind the end
        assert np.abs(stream.silence_features(frame) - quiet[frame]).max() < 1e-5
    after = stream.silence_features(int(30.5 * 25))  # in the second segment, which begins at 20 s
    assert np.array_equal(after, stream.silence_features(int(10.5 * 25)))


def test_lips_rest_in_silence_and_nowhere_else(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder, CPU)
    sound = np.concatenate([np.zeros(8000, np.float32), speech, np.zeros(12_800, np.float32)])
    sound += np.random.default_rng(0).normal(0, 1e-4, len(sound)).astype(np.float32)
    plain, gated = shown(features, sound), shown(SilenceGatedEncoder(features, ahead_ms=90), sound)
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    frames = range(FrameClock().frames_for(len(sound), 16_000))
    assert len(plain) == len(gated) == len(frames)
    resting = [frame for frame in frames if np.array_equal(gated[frame], stream.silence_features(frame))]
    assert set(frames[:8]) | set(frames[-8:]) <= set(resting)
    unchanged = [frame for frame in frames if np.array_equal(gated[frame], plain[frame])]
    assert len(unchanged) > 15
    assert not any(np.array_equal(plain[frame], stream.silence_features(frame)) for frame in frames), (
        "noise is not silence"
    )


@pytest.mark.parametrize("lookahead", [2, 3, 4])
def test_resting_lips_cost_no_time(encoder: WhisperEncoder, speech: Samples, lookahead: int) -> None:
    features = WhisperFeatures(encoder, CPU, lookahead=lookahead)
    gate = SilenceGatedEncoder(features, ahead_ms=80 * lookahead - 70)
    plain, gated = ([len(part) for part in streamed(one, speech[:7680], [1280] * 6)] for one in (features, gate))
    assert plain == gated


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
        self.passes: list[tuple[int, int, bool]] = []

    def heard(self, sound: Samples, index: IndexMap, *, whole: bool) -> Features:
        assert index.max() < 1500
        assert index.max() * 320 < len(sound) + 320
        self.passes.append((len(sound), int(index[index >= 0].min()) * 320, whole))
        return np.zeros((len(index), 50, 384), np.float32)


def test_after_30_s_at_least_10_s_are_still_heard(encoder: WhisperEncoder) -> None:
    features = Listening(encoder)
    minute = np.zeros(75 * 16_000 + 100, np.float32)
    frames = np.concatenate(streamed(features, minute, [1280] * 937))
    assert len(frames) == FrameClock().frames_for(len(minute), 16_000)
    assert max(sound for sound, _, _ in features.passes) <= 480_000
    assert min(place for _, place, _ in features.passes[400:]) >= 150_000
    assert [whole for _, _, whole in features.passes].count(True) == 4, "three full segments and the end"


def test_two_minutes_that_are_there(encoder: WhisperEncoder) -> None:
    features = Listening(encoder)
    sound = np.zeros(120 * 16_000 + 100, np.float32)
    assert len(shown(features, sound, ahead=480_000)) == 3001
    assert len(features.passes) < 260, "half a second each"
    assert [whole for _, _, whole in features.passes].count(True) > 200
    assert min(place for _, place, _ in features.passes[70:]) >= 150_000


@pytest.mark.parametrize("seconds", [29.96, 30.0, 30.1])
def test_around_the_end_of_a_segment(encoder: WhisperEncoder, seconds: float) -> None:
    sound = np.zeros(int(seconds * 16_000), np.float32)
    for ahead in (1280, 480_000):
        features = Listening(encoder)
        assert len(shown(features, sound, ahead, 1280)) == FrameClock().frames_for(len(sound), 16_000)
    assert len({sound for sound, _, _ in features.passes}) == (1 if seconds <= 30 else 2)


def test_a_lookahead_that_hears_too_little(encoder: WhisperEncoder) -> None:
    with pytest.raises(InvalidInput, match="lookahead is 1"):
        WhisperFeatures(encoder, CPU, lookahead=1)
