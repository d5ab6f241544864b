"""Silence means closed lips, whatever the renderer makes of it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.audio import syllables
from warmtalk.core.silence_gate import SilenceGatedEncoder
from warmtalk.core.types import Features, FrameClock, Samples

RATE = 16_000


class Babbler:
    """An encoder whose mouth is open by 1 in speech and by 0.5 in any silence but a digital one."""

    def start_stream(self, clock: FrameClock) -> Babbler:
        stream = Babbler()
        stream.clock = clock  # type: ignore[attr-defined]
        stream.sound = np.zeros(0, np.float32)  # type: ignore[attr-defined]
        stream.done = 0  # type: ignore[attr-defined]
        return stream

    def push_audio(self, samples: Samples) -> Features:
        self.sound = np.concatenate([self.sound, samples])
        return self._rows(int(len(self.sound) * self.clock.fps // RATE))  # type: ignore[attr-defined]

    def finish(self) -> Features:
        return self._rows(self.clock.frames_for(len(self.sound), RATE))  # type: ignore[attr-defined]

    def _rows(self, until: int) -> Features:
        rows = []
        for frame in range(self.done, until):
            a, b = (self.clock.samples_at(frame + k, RATE) for k in (0, 1))  # type: ignore[attr-defined]
            level = float(np.abs(self.sound[a:b]).max(initial=0))
            rows.append([1.0 if level > 0.05 else 0.5 if level > 0 else 0.0, 7.0])
        self.done = until
        return np.array(rows, np.float32).reshape(len(rows), 2)


def talk(noise: float) -> tuple[Samples, list[tuple[float, float]]]:
    """Words with pauses as people make them, in a room with some noise, and where the pauses lie (seconds)."""
    rng = np.random.default_rng(3)
    parts, pauses, place = [np.zeros(8000, np.float32)], [(0.0, 0.5)], 0.5
    for word, pause in ((0.9, 0.5), (1.4, 0.8), (0.5, 0.4), (2.0, 1.5)):
        parts += [syllables(word), np.zeros(int(pause * RATE), np.float32)]
        pauses.append((place + word, place + word + pause))
        place += word + pause
    sound = np.concatenate(parts)
    return np.asarray(sound + noise * rng.standard_normal(len(sound)), np.float32), pauses


def heard(sound: Samples, piece: int, clock: FrameClock) -> Features:
    stream = SilenceGatedEncoder(Babbler()).start_stream(clock)
    rows = [stream.push_audio(sound[k : k + piece]) for k in range(0, len(sound), piece)]
    return np.concatenate([*rows, stream.finish()])


@pytest.mark.parametrize("noise", [0.0001, 0.001, 0.004])
def test_opening_in_silence_is_a_tenth_of_that_in_speech(noise: float) -> None:
    sound, pauses = talk(noise)
    rows = heard(sound, 1600, FrameClock())
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
def test_pieces_do_not_matter(fps: Fraction) -> None:
    sound, _ = talk(0.001)
    clock = FrameClock(fps)
    whole = heard(sound, len(sound), clock)
    assert len(whole) == clock.frames_for(len(sound), RATE)
    for piece in (160, 333, 4801):
        assert np.array_equal(heard(sound, piece, clock), whole)


def test_short_and_silent_sounds() -> None:
    for samples in (1, 100, 5000):
        rows = heard(np.zeros(samples, np.float32), 64, FrameClock())
        assert len(rows) == FrameClock().frames_for(samples, RATE)
        assert not rows[:, 0].any()
