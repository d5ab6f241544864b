"""The signal-processing mouth, on sounds made here: buzzes shaped by formants, hisses, silence."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmtalk.core.mouth import LEAST, MOST, OPENING, WIDTH
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock
from warmtalk.models.mouth_dsp import MouthFromSound

Floats = npt.NDArray[np.float32]
RATES = [Fraction(15), Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(60)]
VOWELS = {"ah": (750, 1200, 2500), "ee": (280, 2300, 3000), "oo": (310, 800, 2300)}


def vowel(name: str, seconds: float, pitch_hz: float = 120.0) -> Floats:
    """A buzz whose harmonics are as strong as its formants let them."""
    t = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    harmonics = pitch_hz * np.arange(1, int(7000 / pitch_hz))
    formants = enumerate(VOWELS[name], 1)
    gains = sum(1 / (1 + ((harmonics - f) / (60 + 0.05 * f)) ** 2) / k for k, f in formants) + np.zeros(len(harmonics))
    buzz = sum(g * np.sin(2 * np.pi * hz * t) for g, hz in zip(gains, harmonics, strict=True))
    fade = np.clip(np.minimum(t, t[::-1]) / 0.02, 0, 1)
    return (0.1 * buzz * fade).astype(np.float32)


def silence(seconds: float) -> Floats:
    return np.zeros(round(seconds * SPEECH_RATE_HZ), np.float32)


def hiss(seconds: float, level: float = 0.1, tilt: float = 0.0) -> Floats:
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(round(seconds * SPEECH_RATE_HZ)))
    shaped = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20.0) ** tilt)
    return (level * shaped / np.abs(shaped).max()).astype(np.float32)


SENTENCE = np.concatenate(
    (
        silence(0.4),
        vowel("ah", 0.25),
        silence(0.09),
        vowel("ee", 0.2),
        vowel("oo", 0.25),
        silence(0.6),
        vowel("ah", 0.3),
    )
)


def mouth(samples: Floats, fps: Fraction = Fraction(25), cuts: tuple[int, ...] = ()) -> Floats:
    stream = MouthFromSound().start_stream(FrameClock(fps))
    rows = [stream.accept(piece) for piece in np.split(samples, sorted(cuts))]
    return np.concatenate([*rows, stream.finish()])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, len(SENTENCE)), max_size=12), st.sampled_from(RATES))
def test_the_cuts_do_not_matter(cuts: list[int], fps: Fraction) -> None:
    np.testing.assert_array_equal(mouth(SENTENCE, fps, tuple(cuts)), mouth(SENTENCE, fps))


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("samples", [0, 1, 255, 1067, 1068, 5000, 16_001])
def test_one_row_per_frame(fps: Fraction, samples: int) -> None:
    rows = mouth(SENTENCE[6000 : 6000 + samples], fps)
    assert rows.shape == (FrameClock(fps).frames_for(samples, SPEECH_RATE_HZ), 4)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("fps", RATES)
def test_a_frame_is_out_200_ms_after_its_middle(fps: Fraction) -> None:
    clock = FrameClock(fps)
    stream = MouthFromSound().start_stream(clock)
    middles = [(clock.samples_at(k, SPEECH_RATE_HZ) + clock.samples_at(k + 1, SPEECH_RATE_HZ)) / 2 for k in range(120)]
    out = 0
    for start in range(0, len(SENTENCE), 160):
        out += len(stream.accept(SENTENCE[start : start + 160]))
        heard = min(start + 160, len(SENTENCE))
        late = heard - SPEECH_RATE_HZ // 5
        assert out >= sum(middle <= late for middle in middles)


def test_all_rows_are_in_range() -> None:
    rows = mouth(np.clip(20 * SENTENCE, -1, 1))
    assert (rows >= LEAST).all() and (rows <= MOST).all()


def test_silence_is_closed() -> None:
    opening = mouth(SENTENCE)[:, OPENING]
    assert opening[:6].max() == 0.0
    pause = opening[round(1.19 * 25) + 6 : round(1.79 * 25) - 3]
    assert pause.max() == 0.0


def test_vowels_open_and_a_stop_between_them_closes() -> None:
    opening = mouth(SENTENCE, Fraction(50))[:, OPENING]
    assert opening[20:32].max() > 0.08
    assert opening[32:37].min() < 0.02
    assert opening[90:104].max() > 0.08


def test_ee_is_wider_than_oo() -> None:
    ee, oo = (mouth(np.concatenate([silence(0.3), vowel(name, 0.6)]))[12:18, WIDTH].mean() for name in ("ee", "oo"))
    assert ee > oo + 0.02


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_noise_alone_does_not_open(tilt: float) -> None:
    assert mouth(hiss(2.0, tilt=tilt))[:, OPENING].max() == 0.0


@pytest.mark.parametrize("gain", [0.03, 0.2, 4.0])
def test_a_quiet_recording_moves_as_much(gain: float) -> None:
    loud, quiet = (mouth(np.tile(SENTENCE, 2) * g)[:, OPENING] for g in (np.float32(1), np.float32(gain)))
    assert np.corrcoef(loud, quiet)[0, 1] > 0.95
    assert 0.7 < quiet.mean() / loud.mean() < 1.4
