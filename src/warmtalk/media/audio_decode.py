"""Untrusted sound files (wav, mp3, flac, ogg) to mono float32, piece by piece, and from any rate to any other.

ffmpeg decodes in a child that may open this one format and nothing else. Memory is bounded by the file itself and a
few pieces of sound. Everything here blocks: call it from a worker thread.
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
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import soxr

from warmtalk.core.errors import BadMedia
from warmtalk.core.types import Samples
from warmtalk.media.ffmpeg_process import FfmpegProcess
from warmtalk.media.file_types import AUDIO_DEMUXERS, HEAD_BYTES, restricted_input, sniff
from warmtalk.media.mp3 import declared_samples
from warmtalk.media.sandbox import AUDIO_LIMITS

_PIECE_FRAMES = 1 << 14
_KEPT_SAMPLES = 1 << 22
_LOWEST_HZ, _HIGHEST_HZ = 1_000, 768_000
_MOST_CHANNELS = 64
_MP3_SLACK_S = 0.25
"""Encoders count their padding, or do not."""
_SAID_CHARS = 200
_KINDS = "Send a wav, mp3, flac or ogg file"
_WHOLE = "Send the whole file"


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A sound file that was decoded once and is good; `samples` are per channel."""

    kind: str
    rate_hz: int
    channels: int
    samples: int
    data: bytes = field(repr=False)
    decoded_chunks: tuple[Samples, ...] = field(repr=False)
    """What was decoded, when it is short; else it is decoded again."""

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz

    def chunks(self) -> Generator[Samples, None, None]:
        """As AudioReader.chunks. Close it when you leave it early."""
        if self.decoded_chunks:
            yield from self.decoded_chunks
        else:
            with closing(AudioReader(self.data, max_s=self.duration_s + 1)) as reader:
                yield from reader.chunks()


class AudioReader:
    """Decodes one file. Iterate once; `rate_hz` and `channels` are known from the start."""

    def __init__(self, data: bytes, *, max_s: float) -> None:
        """Starts the decoder. Raises BadMedia when the file is not a sound, and NotReady without ffmpeg."""
        self.kind = _kind(data)
        self._max_s = max_s
        self._promised = _promised(self.kind, data)
        args = [*restricted_input("pipe:0", self.kind), "-map", "0:a:0", "-c:a", "pcm_f32le"]
        self._child = FfmpegProcess(
            [*args, "-bitexact", "-f", "wav", "pipe:1"], stdin=True, stdout=True, limits=AUDIO_LIMITS
        )
        self._feeder = threading.Thread(target=self._feed, args=(data,), name="sound-feed", daemon=True)
        self._feeder.start()
        try:
            self.rate_hz, self.channels = self._read_header()
        except BaseException:
            self.close()
            raise

    def chunks(self) -> Iterator[Samples]:
        """The mean of the channels, clipped to [-1, 1], a few thousand samples at a time.

        Raises BadMedia for NaN or infinity (with its position), a sound that is damaged, cut short, empty or longer
        than `max_s`. Closes the reader at its end.
        """
        done = 0
        most = int(self._max_s * self.rate_hz)
        try:
            while raw := self._child.stdout.read(_PIECE_FRAMES * self.channels * 4):
                frames = np.frombuffer(raw[: len(raw) // (4 * self.channels) * 4 * self.channels], "<f4")
                grid = frames.reshape(-1, self.channels)
                self._check_finite(grid, done)
                done += len(grid)
                if done > most:
                    raise BadMedia(f"the sound is longer than {self._max_s:g} s", "Send it in shorter parts")
                yield np.clip(grid.mean(axis=1, dtype=np.float32), -1.0, 1.0)
            self._check_end(done)
        finally:
            self.close()

    def close(self) -> None:
        """Idempotent; from any thread."""
        self._child.kill()
        self._feeder.join()

    def _feed(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the child has ended, which its status tells
            self._child.stdin.write(data)
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.close()

    def _read_header(self) -> tuple[int, int]:
        """Rate and channels from the wav head that ffmpeg writes before the samples."""
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
        if not (_LOWEST_HZ <= rate <= _HIGHEST_HZ and 1 <= channels <= _MOST_CHANNELS):
            raise BadMedia(f"the sound has {channels} channels at {rate} Hz", "Send 1 to 64 channels, 1 to 768 kHz")
        return rate, channels

    def _check_finite(self, grid: npt.NDArray[np.float32], done: int) -> None:
        if not np.isfinite(grid).all():
            row = done + int(np.flatnonzero(~np.isfinite(grid).all(axis=1))[0])
            raise BadMedia(
                f"the sound holds NaN or infinity at sample {row} ({row / self.rate_hz:.3f} s)", "Send finite samples"
            )

    def _check_end(self, done: int) -> None:
        status = self._child.wait()
        if status or (self._child.stderr_tail and self.kind != "mp3"):  # players accept mp3 with odd ends
            where = f"after {done / self.rate_hz:.2f} s"
            raise BadMedia(
                f"the sound is damaged or cut short {where}: {self._child.stderr_tail[:_SAID_CHARS]}", _WHOLE
            )
        if self.kind == "flac" and done < self._promised:
            raise BadMedia(f"the flac file is cut short: {done} of {self._promised} samples are there", _WHOLE)
        if self.kind == "mp3" and done + _MP3_SLACK_S * self.rate_hz < self._promised:
            there, whole = (f"{samples / self.rate_hz:.2f}" for samples in (done, self._promised))
            raise BadMedia(f"the mp3 file is cut short: {there} of {whole} s are there", _WHOLE)
        if not done:
            raise BadMedia("the sound has no samples", "Send a sound that is longer than nothing")

    def _undecodable(self) -> BadMedia:
        status = self._child.wait()
        why = self._child.stderr_tail[:_SAID_CHARS] or f"status {status}"
        return BadMedia(f"the {self.kind} file holds no sound that can be decoded ({why})", _KINDS)


def decode_audio(data: bytes, *, max_s: float) -> AudioFile:
    """Decodes the whole file, so that later nothing can be wrong with it. Takes about 1 ms per second of sound.

    Raises all that AudioReader does.
    """
    if (plain := _plain_wav(data)) and plain.duration_s <= max_s:
        return plain
    kept: list[Samples] = []
    samples = 0
    with closing(AudioReader(data, max_s=max_s)) as reader:
        for piece in reader.chunks():
            samples += len(piece)
            if samples <= _KEPT_SAMPLES:
                kept.append(piece)
        short = tuple(kept) if samples <= _KEPT_SAMPLES else ()
        return AudioFile(reader.kind, reader.rate_hz, reader.channels, samples, data, short)


def _plain_wav(data: bytes) -> AudioFile | None:
    """A short 16-bit WAV file, what most speech programs write, without a child: it saves 50 ms before the first frame.

    Gives what AudioReader gives. None for everything else, and for all that is wrong with it: AudioReader says what.
    """
    try:
        if _kind(data) != "wav":
            return None
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, samples = file.getframerate(), file.getnchannels(), file.getnframes()
            usable = _LOWEST_HZ <= rate <= _HIGHEST_HZ and channels <= _MOST_CHANNELS
            if file.getsampwidth() != 2 or not usable or not 0 < samples <= _KEPT_SAMPLES:
                return None
            grid = np.frombuffer(file.readframes(samples), "<i2").reshape(-1, channels)
    except (BadMedia, EOFError, ValueError, wave.Error):
        return None
    if len(grid) != samples:
        return None
    mono = (grid.astype(np.float32) / 32768).mean(axis=1, dtype=np.float32)
    pieces = (mono[place : place + _PIECE_FRAMES] for place in range(0, samples, _PIECE_FRAMES))
    return AudioFile("wav", rate, channels, samples, data, tuple(pieces))


class Resampler:
    """Streams mono sound from one rate to another (soxr "HQ"). Not thread-safe.

    After `flush`, exactly round(samples in * rate out / rate in) samples were returned.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        self._ratio = Fraction(rate_out_hz, rate_in_hz)
        self._stream = soxr.ResampleStream(rate_in_hz, rate_out_hz, 1, dtype="float32", quality="HQ")
        self._taken = 0
        self._given = 0

    def resample(self, samples: Samples) -> Samples:
        """Any number of samples; what is ready comes back, the rest with later calls."""
        self._taken += len(samples)
        if self._ratio == 1:
            self._given += len(samples)
            return samples
        return self._give(self._stream.resample_chunk(samples))

    def flush(self) -> Samples:
        """The rest. Call once."""
        if self._ratio == 1:
            return np.zeros(0, np.float32)
        missing = round(self._taken * self._ratio) - self._given
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)[:missing]
        return np.pad(rest, (0, missing - len(rest)))

    def _give(self, ready: Samples) -> Samples:
        self._given += len(ready)
        return ready


def _promised(kind: str, data: bytes) -> int:
    """Samples per channel that the file itself speaks of; 0 is unknown."""
    if kind == "flac":  # by STREAMINFO, its first block
        return int.from_bytes(data[21:26], "big") & ((1 << 36) - 1)
    return declared_samples(data) if kind == "mp3" else 0


def _kind(data: bytes) -> str:
    if not data:
        raise BadMedia("the sound is an empty file", _KINDS)
    kind = sniff(data[:HEAD_BYTES])
    if kind not in AUDIO_DEMUXERS:
        what = f"a {kind} file" if kind else "of an unknown kind"
        raise BadMedia(f"the sound is {what}", _KINDS)
    if kind == "wav":
        _check_wav(data)
    if kind == "ogg":
        _check_ogg(data)
    return kind


def _check_wav(data: bytes) -> None:
    """ffmpeg plays a wav that is cut short without a word."""
    place = 12
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        here = len(data) - place - 8
        if name == b"data":
            if size == 0 and here == 0:
                raise BadMedia("the sound has no samples", "Send a sound that is longer than nothing")
            if here < size < 0xFFFFFF00:  # a program that writes to a pipe leaves a huge size or 0
                raise BadMedia(f"the wav file is cut short: {here} of {size} bytes of sound are there", _WHOLE)
            return
        place += 8 + size + size % 2
    raise BadMedia("the wav file is cut short before its sound", _WHOLE)


def _check_ogg(data: bytes) -> None:
    """The last page of a whole ogg says that it is the last, and ends with the file."""
    place, last = 0, False
    while data[place : place + 4] == b"OggS" and place + 27 <= len(data):
        last = bool(data[place + 5] & 4)
        segments = data[place + 26]
        place += 27 + segments + sum(data[place + 27 : place + 27 + segments])
    if place > len(data) or not last:
        raise BadMedia("the ogg file is cut short", _WHOLE)
