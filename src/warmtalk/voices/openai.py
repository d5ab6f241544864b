"""Voice of any server with OpenAI's /v1/audio/speech: audio is passed on while the answer arrives.

One POST per sentence, by the standard library's HTTP client in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from warmtalk.core.errors import InvalidInput, Unreachable
from warmtalk.core.ports import SpeechChunk
from warmtalk.voices.wav_stream import read_wav

log = logging.getLogger(__name__)

_MAX_ERROR_BYTES = 2000
_MAX_ERROR_CHARS = 300
_MAX_WAITING_CHUNKS = 8
"""Maximum number of chunks read ahead of the caller."""
_TEXT_REFUSALS = {400, 404, 413, 422}
"""Statuses caused by the request; all others are failures of the server."""


class OpenAiConfig(Protocol):
    """Keys of the configuration that this voice reads."""

    @property
    def openai_url(self) -> str: ...

    @property
    def openai_model(self) -> str: ...

    @property
    def openai_voice(self) -> str: ...

    @property
    def openai_key(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OpenAiSettings:
    """Address of the server and parameters of the request; `url` ends with /v1."""

    url: str
    model: str = "tts-1"
    voice: str = "alloy"
    key: str = ""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    """Longest silence of the server, before and within the answer."""


def build(config: OpenAiConfig) -> OpenAiVoice:
    """Returns the configured voice. See VoiceModule."""
    settings = OpenAiSettings(config.openai_url, config.openai_model, config.openai_voice, config.openai_key)
    return OpenAiVoice(settings)


def check(config: OpenAiConfig) -> str:
    """Returns the address of the server, without a connection attempt. See VoiceModule."""
    return f"openai at {config.openai_url}"


class OpenAiVoice:
    """Implements Voice. Several sentences may be synthesized at the same time."""

    def __init__(self, settings: OpenAiSettings) -> None:
        """Raises InvalidInput for a URL that is not http or https."""
        self._settings = settings
        self._url = urlsplit(settings.url.rstrip("/") + "/audio/speech")
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise InvalidInput(f"openai_url is {settings.url!r}", "Use http://HOST:PORT/v1", field="openai_url")

    async def warm_up(self) -> None:
        """Does nothing: the server decides when to load its model."""

    async def synthesize(self, sentence: str) -> AsyncIterator[SpeechChunk]:
        """Yields chunks as they arrive. Raises Unreachable, or InvalidInput when the server refuses the text."""
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[SpeechChunk | Exception | None] = asyncio.Queue()
        request = _SpeechRequest(self._settings, self._url, sentence)

        def pump() -> None:
            try:
                for chunk in request.chunks():
                    loop.call_soon_threadsafe(chunks.put_nowait, chunk)
                loop.call_soon_threadsafe(chunks.put_nowait, None)
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller is gone
                    loop.call_soon_threadsafe(chunks.put_nowait, error)

        thread = threading.Thread(target=pump, name="speech-http", daemon=True)
        thread.start()
        try:
            while (item := await chunks.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
                request.release_slot()
        finally:
            request.cancel()

    async def close(self) -> None:
        """Does nothing: no connection is kept between sentences."""


class _SpeechRequest:
    """One POST. `chunks` runs in a thread of its own; `cancel` and `release_slot` are for the event loop."""

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
        self._slots = threading.Semaphore(_MAX_WAITING_CHUNKS)

    def release_slot(self) -> None:
        """Admits one more chunk: the consumer has finished a chunk."""
        self._slots.release()

    def cancel(self) -> None:
        """Makes a blocked read return. Idempotent."""
        self._cancelled = True
        self._slots.release()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def chunks(self) -> Iterator[SpeechChunk]:
        """Sends the request and yields the answer. Blocks while _MAX_WAITING_CHUNKS chunks wait for the consumer."""
        try:
            with contextlib.closing(self._connect()) as link, contextlib.closing(self._post(link)) as response:
                for chunk in read_wav(response):
                    self._slots.acquire()
                    if self._cancelled:
                        return
                    yield chunk
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

    def _post(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        connection.connect()
        self._socket = connection.sock
        connection.sock.settimeout(self._settings.read_timeout_s)
        headers = {"Content-Type": "application/json", "Accept": "audio/wav"}
        if self._settings.key:
            headers["Authorization"] = f"Bearer {self._settings.key}"
        connection.request("POST", self._url.path, json.dumps(self._body).encode(), headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            with contextlib.closing(response):
                raise _status_error(response.status, response.read(_MAX_ERROR_BYTES))
        return response


def _status_error(status: int, body: bytes) -> Exception:
    cause = f"{status} {_error_message(body)}".strip()
    if status in _TEXT_REFUSALS:
        return InvalidInput(f"the speech server refused the text: {cause}", "Check openai_model and openai_voice")
    if status in (401, 403):
        return Unreachable(f"the speech server refused the key: {cause}", "Set session.openai_key")
    return Unreachable(f"the speech server failed: {cause}", "Its log says why")


def _error_message(body: bytes) -> str:
    """Returns the text of an error answer, on one line."""
    text = body.decode("utf-8", "replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:_MAX_ERROR_CHARS]
