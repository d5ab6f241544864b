"""Streaming features: equal to the reference where the audio is known, near the reference where audio arrives live."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from warmtalk.core.errors import InvalidInput
from warmtalk.core.ports import LookaheadStream, SpeechEncoder
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.core.types import Features, FrameClock, Samples
from warmtalk.core.windows import IndexMap
from warmtalk.models.musetalk.speech_features import CHUNK_SAMPLES, WhisperFeatures
from warmtalk.models.musetalk.whisper import WhisperEncoder

BOUND_RMS = 0.07
"""Limit for the golden clip as live audio: root mean square of (streaming - reference) / reference. Measured 0.057:
random weights attend to everything alike, so that an estimated future changes more than with trained weights."""


def stream_chunks(
    features: SpeechEncoder, audio: Samples, sizes: list[int], fps: Fraction = Fraction(25)
) -> list[Features]:
    """Returns the rows of each chunk, then those of `finish`."""
    stream = features.start_stream(FrameClock(fps))
    ends = np.cumsum(sizes).tolist()
    parts = [stream.push_audio(part) for part in np.split(audio, [end for end in ends if end < len(audio)])]
    return [*parts, stream.finish()]


def distance(actual: Features, expected: Features) -> float:
    return float(np.sqrt(((actual[: len(expected)] - expected) ** 2).mean() / (expected**2).mean()))


def stream_ahead(features: SpeechEncoder, audio: Samples, ahead: int = 1 << 30, slice_samples: int = 8000) -> Features:
    """Returns all rows of audio pushed in slices, each after `look_ahead` has shown `ahead` samples."""
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    rows = []
    for start in range(0, len(audio), slice_samples):
        stream.look_ahead(audio[start : start + ahead], last=start + ahead >= len(audio))
        rows.append(stream.push_audio(audio[start : start + slice_samples]))
    return np.concatenate([*rows, stream.finish()])


class RecordingFeatures(WhisperFeatures):
    """Records the audio of each pass, and encodes nothing."""

    def __init__(self, encoder: WhisperEncoder, *, lookahead: int = 2) -> None:
        super().__init__(encoder, lookahead=lookahead)
        self.passes: list[tuple[int, int, bool]] = []

    def encode_windows(self, audio: Samples, index: IndexMap, *, complete: bool) -> Features:
        assert index.max() < 1500
        assert index.max() * 320 < len(audio) + 320
        self.passes.append((len(audio), int(index[index >= 0].min()) * 320, complete))
        return np.zeros((len(index), 50, 384), np.float32)


def test_known_audio_gives_the_features_of_the_reference(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder)
    offline = features.reference(speech, 25)
    for slice_samples in (5000, len(speech)):
        actual = stream_ahead(features, speech, slice_samples=slice_samples)
        assert len(actual) == FrameClock().frames_for(len(speech), 16_000)
        assert np.abs(actual[: len(offline)] - offline).max() < 2e-5


def test_more_known_audio_brings_the_features_nearer(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder)
    offline = features.reference(speech, 25)
    found = [distance(stream_ahead(features, speech, ahead, 4800), offline) for ahead in (4800, 9600, len(speech))]
    assert BOUND_RMS > found[0] > found[1] > found[2]


def test_chunks_of_any_size_give_as_many_frames_at_the_same_time(encoder: WhisperEncoder, speech: Samples) -> None:
    features = RecordingFeatures(encoder)
    audio = speech[:7000]
    whole = np.concatenate(stream_chunks(features, audio, []))
    assert whole.shape == (11, 50, 384)
    for sizes in ([1, 700, 1279, 3000, 5], [320] * 20):
        parts = stream_chunks(features, audio, sizes)
        assert np.concatenate(parts).shape == whole.shape
        for samples, frames in zip(np.cumsum(sizes), np.cumsum([len(part) for part in parts]), strict=False):
            assert frames == 2 * max(0, min(samples, len(audio)) // CHUNK_SAMPLES - 1)


def test_frames_come_when_their_window_is_complete(encoder: WhisperEncoder, speech: Samples) -> None:
    for lookahead in (2, 3):
        features = RecordingFeatures(encoder, lookahead=lookahead)
        counts = [len(part) for part in stream_chunks(features, speech[:7680], [1280] * 6)]
        assert counts[:6] == [0] * (lookahead - 1) + [2] * (6 - lookahead + 1)
        assert sum(counts) == 12


def test_live_audio_gives_features_near_the_reference(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder)
    online = np.concatenate(stream_chunks(features, speech, [CHUNK_SAMPLES] * 20))
    assert distance(online, features.reference(speech, 25)) < BOUND_RMS


def test_silence_features_are_those_of_silent_audio(encoder: WhisperEncoder) -> None:
    features = WhisperFeatures(encoder)
    silent = stream_ahead(features, np.zeros(9600, np.float32))
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    for frame in (0, 1, 6, 12):  # the last two windows reach zeros behind the end
        assert np.abs(stream.silence_features(frame) - silent[frame]).max() < 1e-5
    after = stream.silence_features(int(30.5 * 25))  # in the second segment, which starts at 20 s
    assert np.array_equal(after, stream.silence_features(int(10.5 * 25)))


def test_the_silence_gate_replaces_silent_frames_alone(encoder: WhisperEncoder, speech: Samples) -> None:
    features = WhisperFeatures(encoder)
    audio = np.concatenate([np.zeros(8000, np.float32), speech, np.zeros(12_800, np.float32)])
    audio += np.random.default_rng(0).normal(0, 1e-4, len(audio)).astype(np.float32)
    plain, gated = stream_ahead(features, audio), stream_ahead(SilenceGatedEncoder(features, ahead_ms=90), audio)
    stream = features.start_stream(FrameClock())
    assert isinstance(stream, LookaheadStream)
    frames = range(FrameClock().frames_for(len(audio), 16_000))
    silence = [stream.silence_features(frame) for frame in frames]
    assert len(plain) == len(gated) == len(frames)
    silent = [frame for frame in frames if np.array_equal(gated[frame], silence[frame])]
    assert set(frames[:8]) | set(frames[-8:]) <= set(silent)
    unchanged = [frame for frame in frames if np.array_equal(gated[frame], plain[frame])]
    assert len(unchanged) > 15
    assert not any(np.array_equal(plain[frame], silence[frame]) for frame in frames), "noise is not silence"


@pytest.mark.parametrize("lookahead", [2, 3, 4])
def test_the_silence_gate_delays_no_frame(encoder: WhisperEncoder, speech: Samples, lookahead: int) -> None:
    features = RecordingFeatures(encoder, lookahead=lookahead)
    gate = SilenceGatedEncoder(features, ahead_ms=80 * lookahead - 70)
    counts = [[len(part) for part in stream_chunks(one, speech[:7680], [1280] * 6)] for one in (features, gate)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(10), Fraction(50)])
def test_every_rate_gives_every_frame(encoder: WhisperEncoder, speech: Samples, fps: Fraction) -> None:
    rows = np.concatenate(stream_chunks(WhisperFeatures(encoder), speech[:6400], [1280] * 5, fps))
    assert len(rows) == FrameClock(fps).frames_for(6400, 16_000)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (100, 1), (1279, 2)])
def test_audio_shorter_than_a_chunk(encoder: WhisperEncoder, speech: Samples, samples: int, frames: int) -> None:
    rows = np.concatenate(stream_chunks(WhisperFeatures(encoder), speech[:samples], []))
    assert rows.shape == (frames, 50, 384)
    assert np.isfinite(rows).all()


def test_after_30_s_each_pass_has_at_least_10_s_of_context(encoder: WhisperEncoder) -> None:
    features = RecordingFeatures(encoder)
    audio = np.zeros(75 * 16_000 + 100, np.float32)
    rows = np.concatenate(stream_chunks(features, audio, [1280] * 937))
    assert len(rows) == FrameClock().frames_for(len(audio), 16_000)
    assert max(samples for samples, _, _ in features.passes) <= 480_000
    assert min(position for _, position, _ in features.passes[400:]) >= 150_000
    assert [complete for _, _, complete in features.passes].count(True) == 4, "three full segments and the end"


def test_two_minutes_of_known_audio(encoder: WhisperEncoder) -> None:
    features = RecordingFeatures(encoder)
    audio = np.zeros(120 * 16_000 + 100, np.float32)
    assert len(stream_ahead(features, audio, ahead=480_000)) == 3001
    assert len(features.passes) < 260, "half a second each"
    assert [complete for _, _, complete in features.passes].count(True) > 200
    assert min(position for _, position, _ in features.passes[70:]) >= 150_000


@pytest.mark.parametrize("seconds", [29.96, 30.0, 30.1])
def test_around_the_end_of_a_segment(encoder: WhisperEncoder, seconds: float) -> None:
    audio = np.zeros(int(seconds * 16_000), np.float32)
    for ahead in (1280, 480_000):
        features = RecordingFeatures(encoder)
        assert len(stream_ahead(features, audio, ahead, 1280)) == FrameClock().frames_for(len(audio), 16_000)
    assert len({samples for samples, _, _ in features.passes}) == (1 if seconds <= 30 else 2)


def test_a_lookahead_below_the_minimum(encoder: WhisperEncoder) -> None:
    with pytest.raises(InvalidInput, match="lookahead is 1"):
        WhisperFeatures(encoder, lookahead=1)
