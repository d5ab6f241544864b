"""Decodes a WAV file while it arrives over HTTP."""

from __future__ import annotations

import http.client
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from warmtalk.core.errors import Unreachable
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import Samples

_CHUNK_BYTES = 1 << 14
_MAX_BYTES = 256 << 20
_STREAMED_BYTES = 0x7FFF_F000
"""Declared sizes from here on, and 0, mean an unknown size: the audio ends with the answer."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUPPORTED_FORMATS = ((_PCM, 16), (_FLOAT, 32), (_EXTENSIBLE, 16))
"""Pairs of format code and bits per sample."""


@dataclass(frozen=True, slots=True)
class _WavFormat:
    """Fields of the "fmt " chunk. The defaults hold for a file without the chunk."""

    code: int = _PCM
    channels: int = 1
    rate_hz: int = 24_000
    bits: int = 16


def read_wav(stream: http.client.HTTPResponse) -> Iterator[SpeechChunk]:
    """Yields 16-bit or float audio as it arrives, the mean of the channels.

    Raises Unreachable when the answer is no WAV file of these formats, or ends too early.
    """
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise Unreachable("the speech server did not send a wav file", "Use a server that knows response_format wav")
    wav_format, size = _WavFormat(), 0
    while len(header := stream.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            break
        body = stream.read(size + size % 2)
        if name == b"fmt ":
            code, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
            wav_format = _WavFormat(code, channels, rate_hz, bits)
    yield from _read_samples(stream, size if 0 < size < _STREAMED_BYTES else 0, wav_format)


def _read_samples(stream: http.client.HTTPResponse, size: int, wav_format: _WavFormat) -> Iterator[SpeechChunk]:
    """Yields `size` bytes of samples, or all bytes if 0. Data behind the samples is not audio and stays unread."""
    channels, bits = wav_format.channels, wav_format.bits
    supported = (wav_format.code, bits) in _SUPPORTED_FORMATS
    if not supported or not channels or not 8_000 <= wav_format.rate_hz <= 192_000:
        raise Unreachable(f"the speech server sent {bits}-bit audio at {wav_format.rate_hz} Hz", "Use 16-bit PCM")
    dtype, full_scale = ("<f4", 1.0) if bits == 32 else ("<i2", 32768.0)
    frame_bytes, rest = channels * bits // 8, b""
    left = min(size or _MAX_BYTES, _MAX_BYTES)
    while left and (raw := stream.read1(min(_CHUNK_BYTES, left))):
        left -= len(raw)
        raw = rest + raw
        whole_bytes = len(raw) // frame_bytes * frame_bytes
        rest = raw[whole_bytes:]
        if whole_bytes:
            values = np.frombuffer(raw[:whole_bytes], dtype).astype(np.float32)
            frames: Samples = values.reshape(-1, channels) / full_scale
            yield SpeechChunk(np.nan_to_num(frames.mean(axis=1, dtype=np.float32)), wav_format.rate_hz)
    if size and left:
        raise Unreachable("the speech server stopped in the middle of its answer", "Its log says why")
