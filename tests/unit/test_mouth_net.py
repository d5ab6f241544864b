"""The trained mouth encoder: numpy against the arithmetic of training, chunk boundaries, silence and noise."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from warmtalk.core.errors import Damaged
from warmtalk.core.mouth import MAX_SHAPE, MIN_SHAPE, OPENING
from warmtalk.core.types import SPEECH_RATE_HZ, FrameClock
from warmtalk.models.mouth.audio_features import FEATURES, NormalizedFeatures
from warmtalk.models.mouth.net import DILATIONS, TAPS, Network, NetworkStream, TrainedMouth, shape_of

Floats = npt.NDArray[np.float32]
RATES = [Fraction(15), Fraction(25), Fraction(30_000, 1001), Fraction(60)]
CHANNELS = 8


def buzz(seconds: float, formants: tuple[int, ...] = (750, 1200, 2500)) -> Floats:
    t = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    harmonics = np.arange(120.0, 7000.0, 120.0)
    gains = np.sum([1 / (1 + ((harmonics - f) / (60 + 0.05 * f)) ** 2) for f in formants], axis=0)
    fade = np.clip(np.minimum(t, t[::-1]) / 0.02, 0, 1)
    return (0.1 * fade * (gains @ np.sin(2 * np.pi * np.outer(harmonics, t)))).astype(np.float32)


def silence(seconds: float) -> Floats:
    return np.zeros(round(seconds * SPEECH_RATE_HZ), np.float32)


SENTENCE = np.concatenate([silence(0.4), buzz(0.25), silence(0.09), buzz(0.3), silence(0.7), buzz(0.2)])
MOUTH = TrainedMouth()


def mouth(samples: Floats, fps: Fraction = Fraction(25), cuts: tuple[int, ...] = ()) -> Floats:
    stream = MOUTH.start_stream(FrameClock(fps))
    rows = [stream.push_audio(piece) for piece in np.split(samples, sorted(cuts))]
    return np.concatenate([*rows, stream.finish()])


@pytest.fixture
def arrays() -> dict[str, Floats]:
    rng = np.random.default_rng(3)
    shapes = {"centre": (FEATURES,), "first.weight": (1, FEATURES, CHANNELS), "first.bias": (CHANNELS,)}
    for k in range(len(DILATIONS)):
        shapes |= {f"blocks.{k}.weight": (TAPS, CHANNELS, CHANNELS), f"blocks.{k}.bias": (CHANNELS,)}
    shapes |= {"last.weight": (1, CHANNELS, 4), "last.bias": (4,)}
    made = {name: (0.3 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return made | {"spread": np.full(FEATURES, 0.8, np.float32)}


def offline(arrays: dict[str, Floats], rows: Floats) -> Floats:
    """Computes the whole utterance layer by layer, like the training network, at 100 Hz with doubled dilations."""
    span = 2 * (TAPS - 1) * sum(DILATIONS)
    led = np.concatenate([np.tile(NormalizedFeatures.SILENCE, (span + 1, 1)), rows])
    pairs = (led[1:] + led[:-1]) / 2
    x = np.maximum((pairs - arrays["centre"]) / arrays["spread"] @ arrays["first.weight"][0] + arrays["first.bias"], 0)
    for k, dilation in enumerate(DILATIONS):
        reach = 2 * dilation * (TAPS - 1)
        count = len(x) - reach
        taps = [x[2 * dilation * tap :][:count] @ arrays[f"blocks.{k}.weight"][tap] for tap in range(TAPS)]
        x = x[reach:] + np.maximum(sum(taps) + arrays[f"blocks.{k}.bias"], 0)
    return x @ arrays["last.weight"][0] + arrays["last.bias"]


def test_row_by_row_equals_layer_by_layer(arrays: dict[str, Floats], tmp_path: Path) -> None:
    save_file(arrays, tmp_path / "net.safetensors")
    rows = np.random.default_rng(4).standard_normal((120, FEATURES)).astype(np.float32)
    stream = NetworkStream(Network(tmp_path / "net.safetensors"))
    streamed = np.array([stream.push_row(row) for row in rows])
    np.testing.assert_allclose(streamed, offline(arrays, rows), atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, len(SENTENCE)), max_size=10), st.sampled_from(RATES))
def test_chunk_boundaries_do_not_matter(cuts: list[int], fps: Fraction) -> None:
    np.testing.assert_array_equal(mouth(SENTENCE, fps, tuple(cuts)), mouth(SENTENCE, fps))


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("samples", [0, 1, 1067, 5000])
def test_one_row_per_frame_in_range(fps: Fraction, samples: int) -> None:
    rows = mouth(SENTENCE[6000 : 6000 + samples], fps)
    assert rows.shape == (FrameClock(fps).frames_for(samples, SPEECH_RATE_HZ), 4)
    assert (rows >= MIN_SHAPE).all() and (rows <= MAX_SHAPE).all()


def test_silence_is_closed_and_vowels_open() -> None:
    opening = mouth(SENTENCE, Fraction(50))[:, OPENING]
    assert opening[:10].max() == 0.0
    assert opening[66:80].max() == 0.0
    assert opening[20:33].max() > 0.05
    assert opening[37:52].max() > 0.05


def test_noise_alone_does_not_open() -> None:
    noise = 0.1 * np.random.default_rng(5).standard_normal(SPEECH_RATE_HZ)
    assert mouth(noise.astype(np.float32))[:, OPENING].max() == 0.0


def creak(seconds: float) -> Floats:
    """Returns a vowel without pitch: irregular glottal pulses, 25 to 60 per second."""
    rng = np.random.default_rng(4)
    pulses = np.zeros(round(seconds * SPEECH_RATE_HZ))
    index = 0
    while index < len(pulses):
        pulses[index] = rng.uniform(0.5, 1.0)
        index += int(SPEECH_RATE_HZ / rng.uniform(25, 60))
    t = np.arange(400) / SPEECH_RATE_HZ
    throat = sum(np.exp(-300 * t) * np.sin(2 * np.pi * f * t) for f in (750, 1200, 2500))
    sound = np.convolve(pulses, throat)[: len(pulses)]
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def test_a_creaky_voice_counts_as_speech() -> None:
    opening = mouth(np.concatenate([buzz(0.4), creak(0.5), silence(0.6)]))[:, OPENING]
    assert opening[12:21].min() > 0.01
    assert opening[-8:].max() == 0.0


def test_noise_after_speech_closes_the_mouth() -> None:
    noise = 0.1 * np.random.default_rng(5).standard_normal(3 * SPEECH_RATE_HZ)
    opening = mouth(np.concatenate([buzz(0.4), noise.astype(np.float32)]))[:, OPENING]
    assert opening[-40:].max() == 0.0


def test_loudness_does_not_matter() -> None:
    loud, quiet = (mouth(np.tile(SENTENCE, 2) * np.float32(gain))[:, OPENING] for gain in (1.0, 0.05))
    assert 0.75 < quiet.mean() / loud.mean() < 1.3


def test_pressed_lips_are_closed() -> None:
    open_lips, pressed_lips = (np.array([2.0, 0.0, 0.0, press], np.float32) for press in (-3.0, 3.0))
    assert shape_of(open_lips, 1.0)[OPENING] > 0.1
    assert shape_of(pressed_lips, 1.0)[OPENING] == 0.0


def test_other_files_raise_damaged(tmp_path: Path) -> None:
    save_file({"centre": np.zeros(FEATURES, np.float32)}, tmp_path / "half.safetensors")
    (tmp_path / "none.safetensors").write_bytes(b"not tensors")
    for name in ("half", "none", "missing"):
        with pytest.raises(Damaged):
            TrainedMouth(tmp_path / f"{name}.safetensors")
