"""Audio files of every kind are decoded, or refused with the reason."""

from __future__ import annotations

import struct
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.audio import syllables, wav
from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Samples
from warmtalk.media.audio_decode import AudioReader, decode_audio
from warmtalk.media.ffmpeg_command import find_ffmpeg
from warmtalk.media.resampler import Resampler

LIMIT_S = 900.0


def encode_sine(*args: str, rate: int = 44_100, seconds: float = 1.0) -> bytes:
    """Returns a 440 Hz sine in a file that ffmpeg could seek in, so with complete headers."""
    source = ["-f", "lavfi", "-i", f"sine=440:r={rate}:d={seconds}"]
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([find_ffmpeg(), "-v", "error", *source, *args, "-y", file.name], check=True)
        return Path(file.name).read_bytes()


def raw_wav(data: bytes, *, code: int, channels: int, rate: int, bits: int, size: int | None = None) -> bytes:
    frame_bytes = channels * bits // 8
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * frame_bytes, frame_bytes, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data"
    body += struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def float_wav(samples: Samples, rate: int = 16_000) -> bytes:
    return raw_wav(samples.astype("<f4").tobytes(), code=3, channels=1, rate=rate, bits=32)


def decode(data: bytes, max_s: float = LIMIT_S) -> tuple[Samples, int]:
    reader = AudioReader(data, max_s=max_s)
    return np.concatenate(list(reader.chunks())), reader.rate_hz


@pytest.mark.parametrize(
    ("kind", "args", "rate"),
    [
        ("flac", ["-f", "flac"], 44_100),
        ("mp3", ["-f", "mp3"], 44_100),
        ("ogg", ["-c:a", "libvorbis", "-f", "ogg"], 44_100),
        ("ogg", ["-c:a", "libopus", "-f", "ogg"], 48_000),
        ("wav", ["-c:a", "pcm_s24le", "-f", "wav"], 44_100),
        ("wav", ["-c:a", "pcm_f64le", "-f", "wav"], 44_100),
        ("wav", ["-c:a", "pcm_mulaw", "-ar", "8000", "-f", "wav"], 8_000),
    ],
)
def test_kinds(kind: str, args: list[str], rate: int) -> None:
    data = encode_sine(*args)
    info = decode_audio(data, max_s=LIMIT_S)
    assert (info.kind, info.rate_hz, info.channels) == (kind, rate, 1)
    assert info.duration_s == pytest.approx(1.0, abs={"mp3": 0.06, "ogg": 0.01}.get(kind, 1e-6))
    samples, _ = decode(data)
    spectrum = np.abs(np.fft.rfft(samples[: rate // 2]))
    assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=4)


def test_16_bit_wav_is_exact() -> None:
    samples = syllables(0.7)
    decoded, rate = decode(wav(samples))
    assert rate == 16_000
    assert np.array_equal(np.rint(decoded * 32768), (samples * 32767).astype("<i2"))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_16_bit_wav_is_the_same_with_and_without_ffmpeg(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(channels).integers(-32768, 32768, (40_000, channels)).astype("<i2")
    data = raw_wav(noise.tobytes(), code=1, channels=channels, rate=44_100, bits=16)
    decoded, rate = decode(data)
    monkeypatch.setattr("warmtalk.media.audio_decode.AudioReader", None)
    info = decode_audio(data, max_s=LIMIT_S)
    assert (info.rate_hz, info.channels, info.samples) == (rate, channels, 40_000)
    assert np.array_equal(np.concatenate(list(info.chunks())), decoded)


def test_8_khz_8_bit() -> None:
    data = raw_wav(bytes([128] * 4000 + [255] * 4000), code=1, channels=1, rate=8_000, bits=8)
    decoded, rate = decode(data)
    assert (rate, len(decoded)) == (8_000, 8_000)
    assert decoded[0] == 0
    assert decoded[-1] == pytest.approx(127 / 128)


def test_192_khz() -> None:
    assert decode_audio(wav(np.zeros(192_000, np.float32), 192_000), max_s=LIMIT_S).duration_s == 1


def test_eight_channels_are_averaged() -> None:
    frames = np.tile(np.arange(8, dtype="<i2") * 1000, (500, 1))
    data = raw_wav(frames.tobytes(), code=1, channels=8, rate=48_000, bits=16)
    decoded, _ = decode(data)
    assert len(decoded) == 500
    assert np.allclose(decoded, 3500 / 32768)


def test_loud_floats_are_clipped() -> None:
    decoded, _ = decode(float_wav(np.array([0.0, 5.0, -1e30, 0.5], np.float32)))
    assert decoded.tolist() == [0, 1, -1, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    samples = np.zeros(60_000, np.float32)
    samples[40_000] = bad
    with pytest.raises(BadMedia, match=r"the audio holds NaN or infinity at sample 40000 \(2\.500 s\)"):
        decode_audio(float_wav(samples), max_s=LIMIT_S)


def test_not_finite_in_one_channel_of_two() -> None:
    frames = np.zeros((100, 2), "<f4")
    frames[60, 1] = np.nan
    with pytest.raises(BadMedia, match="NaN or infinity at sample 60"):
        decode_audio(raw_wav(frames.tobytes(), code=3, channels=2, rate=16_000, bits=32), max_s=LIMIT_S)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the audio file is empty"),
        (b"hello, this is a text", "the audio file is of an unknown kind. Send a wav, mp3, flac or ogg file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "the audio file is a png file"),
        (b"\x00\x00\x00\x18ftypmp42" + bytes(100), "the audio file is a mp4 file"),
        (b"RIFF\x00\x00\x00\x00WAVE", "the wav file is cut short before its audio"),
        (b"fLaC" + b"x" * 1000, "the flac file holds no audio that can be decoded"),
        (b"OggS" + bytes(60), "the ogg file is cut short"),
        (b"ID3" + bytes(200), "the mp3 file holds no audio that can be decoded"),
        (wav(np.zeros(0, np.float32)), "the audio has no samples"),
        (raw_wav(bytes(400), code=1, channels=2, rate=0, bits=16), "the wav file holds no audio that can be decoded"),
        (raw_wav(bytes(400), code=1, channels=1, rate=50, bits=16), "the audio has 1 channels at 50 Hz"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadMedia) as caught:
        decode_audio(data, max_s=LIMIT_S)
    assert message in str(caught.value)
    assert " @ 0x" not in str(caught.value)


@pytest.mark.parametrize("args", [["-f", "flac"], ["-c:a", "libvorbis", "-f", "ogg"], ["-c:a", "libopus", "-f", "ogg"]])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_short(args: list[str], part: float) -> None:
    data = encode_sine(*args, seconds=3)
    with pytest.raises(BadMedia, match="cut short"):
        decode_audio(data[: int(len(data) * part)], max_s=LIMIT_S)


@pytest.mark.parametrize("args", [[], ["-q:a", "4"], ["-ac", "2"], ["-ar", "22050"]])
def test_mp3_cut_short(args: list[str]) -> None:
    data = encode_sine("-id3v2_version", "3", *args, "-f", "mp3", seconds=3)
    assert decode_audio(data, max_s=LIMIT_S).duration_s == pytest.approx(3, abs=0.06)
    with pytest.raises(BadMedia, match=r"the mp3 file is cut short: 1\.\d\d of 3\.\d\d s are there"):
        decode_audio(data[: len(data) // 2], max_s=LIMIT_S)


def test_an_mp3_without_a_declared_length_is_decoded_to_the_end() -> None:
    """Speech servers stream such files."""
    data = encode_sine("-write_xing", "0", "-f", "mp3", seconds=3)
    assert decode_audio(data[: len(data) // 2], max_s=LIMIT_S).duration_s == pytest.approx(1.5, abs=0.1)


def test_wav_cut_short() -> None:
    with pytest.raises(BadMedia, match="the wav file is cut short: 956 of 32000 bytes of audio are there"):
        decode_audio(wav(np.zeros(16_000, np.float32))[:1000], max_s=LIMIT_S)


def test_wav_of_unknown_length_is_decoded_to_the_end() -> None:
    for size in (0xFFFFFFFF, 0):
        data = raw_wav(bytes(3200), code=1, channels=1, rate=16_000, bits=16, size=size)
        assert decode_audio(data, max_s=LIMIT_S).samples == 1600


def test_one_hour_is_refused() -> None:
    data = raw_wav(b"\x80" * (8_000 * 3_600), code=1, channels=1, rate=8_000, bits=8)
    with pytest.raises(BadMedia, match=r"the audio is longer than 900 s\. Send it in shorter parts"):
        decode_audio(data, max_s=LIMIT_S)


def test_audio_of_exactly_the_limit_is_accepted() -> None:
    assert decode_audio(wav(np.zeros(16_000, np.float32)), max_s=1.0).samples == 16_000
    with pytest.raises(BadMedia, match="longer than 1 s"):
        decode_audio(wav(np.zeros(16_001, np.float32)), max_s=1.0)


def test_leaving_early_ends_the_threads() -> None:
    reader = AudioReader(wav(np.zeros(16_000 * 60, np.float32)), max_s=LIMIT_S)
    chunks = reader.chunks()
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("audio-feed", "ffmpeg"))]


@pytest.mark.parametrize("rate_in", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("rate_out", [16_000, 48_000])
@pytest.mark.parametrize("samples", [1, 7, 1_000, 30_001])
def test_resampled_length_is_exact(rate_in: int, rate_out: int, samples: int) -> None:
    source = syllables(samples / rate_in + 1, rate_in)[:samples]
    resampler = Resampler(rate_in, rate_out)
    whole = np.concatenate([resampler.resample(source), resampler.flush()])
    assert len(whole) == round(samples * rate_out / rate_in)
    assert whole.dtype == np.float32
    chunked = Resampler(rate_in, rate_out)
    joined = np.concatenate([*(chunked.resample(source[k : k + 997]) for k in range(0, samples, 997)), chunked.flush()])
    assert np.array_equal(joined, whole), "independent of the size of the chunks"


def test_a_tone_is_resampled_exactly() -> None:
    t = np.arange(22_050) / 22_050
    resampler = Resampler(22_050, 48_000)
    resampled = np.concatenate([resampler.resample(np.sin(2 * np.pi * 1000 * t).astype(np.float32)), resampler.flush()])
    expected = np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)
    assert np.abs(resampled - expected)[500:-500].max() < 1e-3


def test_resampling_no_samples() -> None:
    resampler = Resampler(22_050, 48_000)
    assert len(resampler.resample(np.zeros(0, np.float32))) == len(resampler.flush()) == 0
