"""Silence gate: closed lips in silence, for an encoder with an open mouth in noise."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.audio import syllables
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.core.types import Features, FrameClock, Samples

RATE = 16_000


class NoisyMouthEncoder:
    """An encoder and its stream: opening 1 in speech, 0.5 in noise, 0 in digital silence."""

    def start_stream(self, clock: FrameClock) -> NoisyMouthEncoder:
        stream = NoisyMouthEncoder()
        stream.clock = clock  # type: ignore[attr-defined]
        stream.audio = np.zeros(0, np.float32)  # type: ignore[attr-defined]
        stream.done = 0  # type: ignore[attr-defined]
        return stream

    def push_audio(self, samples: Samples) -> Features:
        self.audio = np.concatenate([self.audio, samples])
        return self._rows(int(len(self.audio) * self.clock.fps // RATE))  # type: ignore[attr-defined]

    def finish(self) -> Features:
        return self._rows(self.clock.frames_for(len(self.audio), RATE))  # type: ignore[attr-defined]

    def _rows(self, end: int) -> Features:
        rows = []
        for frame in range(self.done, end):
            a, b = (self.clock.samples_at(frame + k, RATE) for k in (0, 1))  # type: ignore[attr-defined]
            level = float(np.abs(self.audio[a:b]).max(initial=0))
            rows.append([1.0 if level > 0.05 else 0.5 if level > 0 else 0.0, 7.0])
        self.done = end
        return np.array(rows, np.float32).reshape(len(rows), 2)


def talk(noise: float) -> tuple[Samples, list[tuple[float, float]]]:
    """Returns words with natural pauses in a noisy room, and (start, end) of the pauses in seconds."""
    rng = np.random.default_rng(3)
    parts, pauses, time_s = [np.zeros(8000, np.float32)], [(0.0, 0.5)], 0.5
    for word, pause in ((0.9, 0.5), (1.4, 0.8), (0.5, 0.4), (2.0, 1.5)):
        parts += [syllables(word), np.zeros(int(pause * RATE), np.float32)]
        pauses.append((time_s + word, time_s + word + pause))
        time_s += word + pause
    audio = np.concatenate(parts)
    return np.asarray(audio + noise * rng.standard_normal(len(audio)), np.float32), pauses


def encode(audio: Samples, chunk: int, clock: FrameClock) -> Features:
    stream = SilenceGatedEncoder(NoisyMouthEncoder()).start_stream(clock)
    rows = [stream.push_audio(audio[k : k + chunk]) for k in range(0, len(audio), chunk)]
    return np.concatenate([*rows, stream.finish()])


@pytest.mark.parametrize("noise", [0.0001, 0.001, 0.004])
def test_opening_in_silence_is_a_tenth_of_that_in_speech(noise: float) -> None:
    audio, pauses = talk(noise)
    rows = encode(audio, 1600, FrameClock())
    times = (np.arange(len(rows)) + 0.5) / 25
    silent = np.zeros(len(rows), bool)
    for begin, end in pauses:
        silent |= (times > begin + 0.3) & (times < end - 0.12)
    voiced = np.ones(len(rows), bool)
    for begin, end in pauses:
        voiced &= (times < begin) | (times > end)
    assert rows[silent, 0].mean() <= 0.1 * rows[voiced, 0].mean()
    assert rows[voiced, 0].mean() > 0.6, "speech stays"
    assert (rows[:, 1] >= 0).all()


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(17)])
def test_the_size_of_chunks_does_not_matter(fps: Fraction) -> None:
    audio, _ = talk(0.001)
    clock = FrameClock(fps)
    whole = encode(audio, len(audio), clock)
    assert len(whole) == clock.frames_for(len(audio), RATE)
    for chunk in (160, 333, 4801):
        assert np.array_equal(encode(audio, chunk, clock), whole)


def test_short_and_silent_audio() -> None:
    for samples in (1, 100, 5000):
        rows = encode(np.zeros(samples, np.float32), 64, FrameClock())
        assert len(rows) == FrameClock().frames_for(samples, RATE)
        assert not rows[:, 0].any()
