"""Messages from a viewer's WebSocket: parsing, validation, and the calls on the live stream."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from warmtalk.core.errors import InvalidInput
from warmtalk.services.gateway.live.broadcast import Broadcast

_MAX_TEXT = 5000
"""Longest text of one message, in characters."""


async def handle_message(broadcast: Broadcast, text: str) -> None:
    """Executes a JSON message, an object with a `type`. Raises InvalidInput for a bad message, else the errors of the
    stream.
    """
    message = _parse_object(text)
    handlers: dict[str, Callable[[], Awaitable[None]]] = {
        "text": lambda: broadcast.call.send_text(_text(message)),
        "ask": lambda: broadcast.answer.start(_text(message)),
        "pcm": lambda: handle_audio(broadcast, _decode_base64(message.get("data"))),
        "end": broadcast.call.end_utterance,
        "interrupt": lambda: broadcast.interrupt(parse_seconds(message["position"]) if "position" in message else None),
        "playback": lambda: broadcast.call.report_playback(parse_seconds(message.get("position"))),
    }
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in handlers:
        known = ", ".join(handlers)
        raise InvalidInput(f"there is no message of type {str(kind)[:40]!r}", f"Known types: {known}", field="type")
    await handlers[kind]()


async def handle_audio(broadcast: Broadcast, data: bytes) -> None:
    """Sends a chunk of 16-bit samples. Raises InvalidInput for an odd number of bytes."""
    if len(data) % 2:
        raise InvalidInput(f"the audio has {len(data)} bytes", "Send 16-bit samples", field="data")
    await broadcast.call.send_pcm(data)


def parse_seconds(value: object) -> float:
    """Returns a position in seconds. Raises InvalidInput unless finite and in 0 to 1e7."""
    with suppress(ValueError, TypeError):
        seconds = float(str(value))
        if math.isfinite(seconds) and 0 <= seconds < 1e7:
            return seconds
    raise InvalidInput(f"position is {str(value)[:40]!r}", "Send the position in seconds", field="position")


def parse_sequence(value: str) -> int:
    """Returns the sequence of a fragment. Raises InvalidInput."""
    if value.isascii() and value.isdigit() and len(value) <= 12:
        return int(value)
    raise InvalidInput(f"after is {value[:40]!r}", "Send the sequence of a fragment", field="after")


def _parse_object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the message is not JSON ({error})", "Send an object with a `type`") from error
    if not isinstance(message, dict):
        raise InvalidInput("the message is not an object", "Send an object with a `type`")
    return message


def _text(message: dict[str, Any]) -> str:
    text = message.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("there is no text", "Send `text`", field="text")
    if len(text) > _MAX_TEXT:
        raise InvalidInput(f"the text has {len(text)} characters", f"Send at most {_MAX_TEXT}", field="text")
    return text


def _decode_base64(data: object) -> bytes:
    with suppress(binascii.Error, ValueError, TypeError):
        return base64.b64decode(str(data), validate=True)
    raise InvalidInput("data is not base64", "Send 16-bit samples at 16 kHz as base64", field="data")
