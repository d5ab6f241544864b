"""Decodes untrusted audio files (wav, mp3, flac, ogg) to mono float32, chunk by chunk.

ffmpeg decodes in a child that can open this one format and nothing else. Memory is bounded by the size of the file and
a few chunks of audio. Everything here blocks: call from a worker thread.
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import wave
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Samples
from warmtalk.media.audio_headers import (
    INCOMPLETE_HINT,
    SUPPORTED_HINT,
    audio_kind,
    declared_samples,
    no_samples_error,
)
from warmtalk.media.ffmpeg_command import STDIN, STDOUT, restricted_input
from warmtalk.media.ffmpeg_process import FfmpegProcess
from warmtalk.media.sandbox import AUDIO_LIMITS

_CHUNK_SAMPLES = 1 << 14
_MAX_KEPT_SAMPLES = 1 << 22
"""Longest audio that stays in memory decoded."""
_MIN_HZ, _MAX_HZ = 1_000, 768_000
_MAX_CHANNELS = 64
_MP3_TOLERANCE_S = 0.25
"""Some encoders count their padding as audio, others do not."""
_MAX_STDERR_CHARS = 200


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An audio file that was decoded once without an error."""

    kind: str
    rate_hz: int
    channels: int
    samples: int
    """Samples per channel."""
    data: bytes = field(repr=False)
    decoded_chunks: tuple[Samples, ...] = field(repr=False)
    """The decoded audio of a short file; empty for a long file, which is decoded again."""

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz

    def chunks(self) -> Generator[Samples, None, None]:
        """Yields like AudioReader.chunks. Close the generator when you leave early."""
        if self.decoded_chunks:
            yield from self.decoded_chunks
        else:
            with closing(AudioReader(self.data, max_s=self.duration_s + 1)) as reader:
                yield from reader.chunks()


class AudioReader:
    """Decodes one file. Iterate once; `rate_hz` and `channels` are known from the start."""

    def __init__(self, data: bytes, *, max_s: float) -> None:
        """Starts the decoder. Raises BadMedia when the file is not audio, and NotReady without ffmpeg."""
        self.kind = audio_kind(data)
        self._max_s = max_s
        self._declared = declared_samples(self.kind, data)
        audio = restricted_input(STDIN, self.kind)["a:0"]
        output = audio.output(STDOUT, f="wav", acodec="pcm_f32le", bitexact=None)
        self._child = FfmpegProcess(output, stdin=True, stdout=True, limits=AUDIO_LIMITS)
        self._feeder = threading.Thread(target=self._feed, args=(data,), name="audio-feed", daemon=True)
        self._feeder.start()
        try:
            self.rate_hz, self.channels = self._read_header()
        except BaseException:
            self.close()
            raise

    def chunks(self) -> Iterator[Samples]:
        """Yields the mean of the channels, clipped to [-1, 1], a few thousand samples at a time.

        Raises BadMedia for NaN or infinity (with the position) and for audio that is damaged, cut short, empty or
        longer than `max_s`. Closes the reader at the end.
        """
        done = 0
        max_samples = int(self._max_s * self.rate_hz)
        try:
            while raw := self._child.stdout.read(_CHUNK_SAMPLES * self.channels * 4):
                values = np.frombuffer(raw[: len(raw) // (4 * self.channels) * 4 * self.channels], "<f4")
                block = values.reshape(-1, self.channels)
                self._check_finite(block, done)
                done += len(block)
                if done > max_samples:
                    raise BadMedia(f"the audio is longer than {self._max_s:g} s", "Send it in shorter parts")
                yield np.clip(block.mean(axis=1, dtype=np.float32), -1.0, 1.0)
            self._check_end(done)
        finally:
            self.close()

    def close(self) -> None:
        """Stops the decoder. Idempotent; from any thread."""
        self._child.kill()
        self._feeder.join()

    def _feed(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the child has ended: its exit status says why
            self._child.stdin.write(data)
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.close()

    def _read_header(self) -> tuple[int, int]:
        """Returns (rate, channels) from the wav header that ffmpeg writes before the samples."""
        stream = self._child.stdout
        if len(stream.read(12)) < 12:
            raise self._undecodable()
        rate = channels = 0
        while len(head := stream.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                break
            body = stream.read(size)
            if name == b"fmt ":
                channels, rate = struct.unpack_from("<HI", body, 2)
        if not _is_supported(rate, channels):
            raise BadMedia(f"the audio has {channels} channels at {rate} Hz", "Send 1 to 64 channels, 1 to 768 kHz")
        return rate, channels

    def _check_finite(self, block: npt.NDArray[np.float32], done: int) -> None:
        """Raises BadMedia for NaN or infinity. `block` is [samples, channels]; `done` samples came before."""
        if not np.isfinite(block).all():
            position = done + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise BadMedia(
                f"the audio holds NaN or infinity at sample {position} ({position / self.rate_hz:.3f} s)",
                "Send finite samples",
            )

    def _check_end(self, done: int) -> None:
        """Raises BadMedia when the decoder failed, or gave fewer samples than the file declares."""
        status = self._child.wait()
        if status or (self._child.stderr_tail and self.kind != "mp3"):  # players accept mp3 with odd ends
            cause = self._child.stderr_tail[:_MAX_STDERR_CHARS]
            raise BadMedia(
                f"the audio is damaged or cut short after {done / self.rate_hz:.2f} s: {cause}", INCOMPLETE_HINT
            )
        if self.kind == "flac" and done < self._declared:
            raise BadMedia(f"the flac file is cut short: {done} of {self._declared} samples are there", INCOMPLETE_HINT)
        if self.kind == "mp3" and done + _MP3_TOLERANCE_S * self.rate_hz < self._declared:
            decoded_s, declared_s = done / self.rate_hz, self._declared / self.rate_hz
            raise BadMedia(
                f"the mp3 file is cut short: {decoded_s:.2f} of {declared_s:.2f} s are there", INCOMPLETE_HINT
            )
        if not done:
            raise no_samples_error()

    def _undecodable(self) -> BadMedia:
        status = self._child.wait()
        cause = self._child.stderr_tail[:_MAX_STDERR_CHARS] or f"status {status}"
        return BadMedia(f"the {self.kind} file holds no audio that can be decoded ({cause})", SUPPORTED_HINT)


def decode_audio(data: bytes, *, max_s: float) -> AudioFile:
    """Decodes the whole file, so that later use cannot fail. Takes about 1 ms per second of audio.

    Raises like AudioReader.
    """
    if (plain := _read_plain_wav(data)) and plain.duration_s <= max_s:
        return plain
    chunks: list[Samples] = []
    samples = 0
    with closing(AudioReader(data, max_s=max_s)) as reader:
        for chunk in reader.chunks():
            samples += len(chunk)
            if samples <= _MAX_KEPT_SAMPLES:
                chunks.append(chunk)
        kept = tuple(chunks) if samples <= _MAX_KEPT_SAMPLES else ()
        return AudioFile(reader.kind, reader.rate_hz, reader.channels, samples, data, kept)


def _read_plain_wav(data: bytes) -> AudioFile | None:
    """Decodes a short 16-bit WAV file, the output of most speech programs, without a child. This saves 50 ms.

    The result equals AudioReader's. Returns None for any other file and for any fault: AudioReader reports the fault.
    """
    try:
        if audio_kind(data) != "wav":
            return None
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, samples = file.getframerate(), file.getnchannels(), file.getnframes()
            supported = file.getsampwidth() == 2 and _is_supported(rate, channels)
            if not supported or not 0 < samples <= _MAX_KEPT_SAMPLES:
                return None
            block = np.frombuffer(file.readframes(samples), "<i2").reshape(-1, channels)
    except (BadMedia, EOFError, ValueError, wave.Error):
        return None
    if len(block) != samples:
        return None
    mono = (block.astype(np.float32) / 32768).mean(axis=1, dtype=np.float32)
    chunks = (mono[start : start + _CHUNK_SAMPLES] for start in range(0, samples, _CHUNK_SAMPLES))
    return AudioFile("wav", rate, channels, samples, data, tuple(chunks))


def _is_supported(rate_hz: int, channels: int) -> bool:
    return _MIN_HZ <= rate_hz <= _MAX_HZ and 1 <= channels <= _MAX_CHANNELS
