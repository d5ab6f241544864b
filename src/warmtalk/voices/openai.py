"""Any server with OpenAI's /v1/audio/speech: POST text, sound comes back and is passed on while it arrives.

The standard library's HTTP client in a thread: one request at a time per sentence needs no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import numpy as np

from warmtalk.core.errors import InvalidInput, Unreachable
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import Samples

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 14
_MOST_BYTES = 256 << 20
_ERROR_BYTES = 2000
_STREAMED = 0x7FFF_F000
_AHEAD = 8
_REFUSALS = {400, 404, 413, 422}
"""Statuses that speak of the request; all others of the server."""


@dataclass(frozen=True, slots=True)
class OpenAiSettings:
    """Where and how; `url` goes up to and with /v1."""

    url: str
    model: str = "tts-1"
    voice: str = "alloy"
    key: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    """Longest silence of the server, before and within its answer."""


class OpenAiVoice:
    """core.ports.Voice. Sentences may be spoken at the same time."""

    def __init__(self, settings: OpenAiSettings) -> None:
        """Raises InvalidInput for a URL that is not http or https."""
        self._settings = settings
        self._url = urlsplit(settings.url.rstrip("/") + "/audio/speech")
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise InvalidInput(f"openai_url is {settings.url!r}", "Use http://HOST:PORT/v1", field="openai_url")

    async def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """Pieces as they arrive. Raises Unreachable, or InvalidInput when the server refuses the text."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[SpeechChunk | Exception | None] = asyncio.Queue()
        request = _Request(self._settings, self._url, sentence)

        def pump() -> None:
            try:
                for piece in request.chunks():
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
                loop.call_soon_threadsafe(pieces.put_nowait, None)
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                with contextlib.suppress(RuntimeError):  # the loop is gone, and so is the caller
                    loop.call_soon_threadsafe(pieces.put_nowait, error)

        thread = threading.Thread(target=pump, name="speech-http", daemon=True)
        thread.start()
        try:
            while (item := await pieces.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
                request.took()
        finally:
            request.cancel()

    async def warm_up(self) -> None:
        """Does nothing: the server decides when to load its model."""

    async def close(self) -> None:
        """Nothing is kept between sentences."""


class _Request:
    """One POST. `pieces` runs in a thread of its own; `cancel` and `took` are for the event loop."""

    def __init__(self, settings: OpenAiSettings, url: SplitResult, sentence: str) -> None:
        self._settings = settings
        self._url = url
        self._body = {
            "model": settings.model,
            "voice": settings.voice,
            "input": sentence,
            "response_format": "wav",
        }
        self._socket: socket.socket | None = None
        self._cancelled = False
        self._room = threading.Semaphore(_AHEAD)

    def took(self) -> None:
        """The consumer is done with a piece."""
        self._room.release()

    def cancel(self) -> None:
        """Makes a blocked read return. Idempotent."""
        self._cancelled = True
        self._room.release()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def chunks(self) -> Iterator[SpeechChunk]:
        try:
            with contextlib.closing(self._connect()) as link, contextlib.closing(self._post(link)) as response:
                for speech in _decode(response):
                    self._room.acquire()
                    if self._cancelled:
                        return
                    yield speech
        except (OSError, http.client.HTTPException, EOFError) as error:
            if self._cancelled:
                return
            raise Unreachable(
                f"the speech server {self._settings.url} does not answer ({str(error) or type(error).__name__})",
                "Start it, or set session.voice to piper",
            ) from error

    def _connect(self) -> http.client.HTTPConnection:
        host, port, timeout = self._url.hostname or "", self._url.port, self._settings.connect_timeout_s
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _post(self, link: http.client.HTTPConnection) -> http.client.HTTPResponse:
        link.connect()
        self._socket = link.sock
        link.sock.settimeout(self._settings.read_timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "audio/wav"}
        if self._settings.key:
            headers["Authorization"] = f"Bearer {self._settings.key}"
        link.request("POST", self._url.path, json.dumps(self._body).encode(), headers)
        response = link.getresponse()
        if response.status != http.client.OK:
            with contextlib.closing(response):
                raise self._refusal(response.status, response.read(_ERROR_BYTES))
        return response

    def _refusal(self, status: int, body: bytes) -> Exception:
        why = f"{status} {_message(body)}".strip()
        if status in _REFUSALS:
            return InvalidInput(f"the speech server refused the text: {why}", "Check openai_model and openai_voice")
        if status in (401, 403):
            return Unreachable(f"the speech server refused the key: {why}", "Set session.openai_key")
        return Unreachable(f"the speech server failed: {why}", "Its log says why")


def _message(body: bytes) -> str:
    """The text of an error answer, on one line."""
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:300]


def _decode(stream: http.client.HTTPResponse) -> Iterator[SpeechChunk]:
    """16-bit or float WAV while it arrives. A size of 0 or beyond 2 GiB is a server's that streams: to the end."""
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise Unreachable("the speech server did not send a wav file", "Use a server that knows response_format wav")
    form, size = (1, 1, 24_000, 16), 0
    while len(chunk := stream.read(8)) == 8:
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            break
        body = stream.read(size + size % 2)
        if name == b"fmt ":
            code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
            form = (code, channels, rate, bits)
    yield from _samples(stream, size if 0 < size < _STREAMED else 0, *form)


def _samples(
    stream: http.client.HTTPResponse, size: int, code: int, channels: int, rate: int, bits: int
) -> Iterator[SpeechChunk]:
    """`size` bytes of samples, 0 for all there are; what follows them in the file is no sound."""
    if (code, bits) not in ((1, 16), (3, 32), (0xFFFE, 16)) or not channels or not 8_000 <= rate <= 192_000:
        raise Unreachable(f"the speech server sent {bits}-bit sound at {rate} Hz", "Use 16-bit PCM")
    dtype, full = ("<f4", 1.0) if bits == 32 else ("<i2", 32768.0)
    step, rest = channels * bits // 8, b""
    left = min(size or _MOST_BYTES, _MOST_BYTES)
    while left and (raw := stream.read1(min(_PIECE_BYTES, left))):
        left -= len(raw)
        raw = rest + raw
        whole = len(raw) // step * step
        rest = raw[whole:]
        if whole:
            grid: Samples = np.frombuffer(raw[:whole], dtype).astype(np.float32).reshape(-1, channels) / full
            yield SpeechChunk(np.nan_to_num(grid.mean(axis=1, dtype=np.float32)), rate)
    if size and left:
        raise Unreachable("the speech server stopped in the middle of its answer", "Its log says why")
