"""Applies the messages of a Converse client to the live stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from warmtalk.core.errors import InvalidInput, WarmtalkError
from warmtalk.services.session.live.stream import LiveStream
from warmtalk.services.session.live.utterance_input import decode_pcm
from warmtalk.v1 import session_pb2

log = logging.getLogger(__name__)

_CONFIG_TIMEOUT_S = 20.0
_DEFAULT_RATE_HZ, _MIN_RATE_HZ, _MAX_RATE_HZ = 16_000, 8_000, 48_000
_DEFAULT_FRAGMENT_S, _MIN_FRAGMENT_S, _MAX_FRAGMENT_S = 0.1, 0.04, 1.0


@dataclass(frozen=True, slots=True)
class ConverseSettings:
    """ConverseConfig with the defaults filled in."""

    session_id: str
    rate_hz: int
    """Sample rate of the PCM messages."""
    channels: int
    idle: bool
    """True when the head moves between utterances."""
    fragment_s: float


async def read_settings(requests: AsyncIterator[session_pb2.ConverseRequest]) -> ConverseSettings:
    """Reads the first message. Raises InvalidInput when the message is not a valid config or does not arrive."""
    try:
        first = await asyncio.wait_for(anext(aiter(requests), session_pb2.ConverseRequest()), _CONFIG_TIMEOUT_S)
    except TimeoutError as error:
        raise InvalidInput(
            f"no config came in {_CONFIG_TIMEOUT_S:g} s", "Send ConverseConfig first", field="config"
        ) from error
    if first.WhichOneof("message") != "config":
        raise InvalidInput("the first message of Converse is not a config", "Send ConverseConfig first", field="config")
    config = first.config
    rate_hz, channels = config.sample_rate_hz or _DEFAULT_RATE_HZ, config.channels or 1
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise InvalidInput(
            f"sample_rate_hz is {rate_hz}", f"Use {_MIN_RATE_HZ} to {_MAX_RATE_HZ}", field="config.sample_rate_hz"
        )
    if channels not in (1, 2):
        raise InvalidInput(f"channels is {channels}", "Use 1 or 2", field="config.channels")
    fragment_s = _seconds(config.fragment_duration) or _DEFAULT_FRAGMENT_S
    if not _MIN_FRAGMENT_S <= fragment_s <= _MAX_FRAGMENT_S:
        raise InvalidInput(
            f"fragment_duration is {fragment_s:g} s", "Use 40 ms to 1 s", field="config.fragment_duration"
        )
    idle = config.idle if config.HasField("idle") else True
    return ConverseSettings(config.session_id, rate_hz, channels, idle, fragment_s)


async def read_requests(
    requests: AsyncIterator[session_pb2.ConverseRequest], stream: LiveStream, settings: ConverseSettings
) -> None:
    """Applies messages until the client sends no more. An invalid message aborts the stream."""
    try:
        async for request in requests:
            _apply(request, stream, settings)
            await stream.wait_for_room()
        stream.end_input()
    except WarmtalkError as error:
        stream.abort(error)
    except Exception:  # grpc.aio reports the end of a call by several private errors
        log.debug("a client disconnected", exc_info=True)
        stream.close()


def _apply(request: session_pb2.ConverseRequest, stream: LiveStream, settings: ConverseSettings) -> None:
    match request.WhichOneof("message"):
        case "text":
            stream.push_text(request.text)
        case "pcm_s16le":
            stream.push_audio(decode_pcm(request.pcm_s16le, settings.channels), settings.rate_hz)
        case "interrupt":
            has_position = request.interrupt.HasField("position")
            stream.interrupt(position_s=_seconds(request.interrupt.position) if has_position else None)
        case "end":
            stream.end_utterance()
        case "playback":
            stream.set_playback_position(_seconds(request.playback.position))
        case "config":
            raise InvalidInput("a second config came", "Send one config, as the first message", field="config")
        case None:
            raise InvalidInput("a message carries nothing", "Send text, pcm_s16le, interrupt, end or playback")


def _seconds(duration: Duration) -> float:
    seconds: float = duration.ToTimedelta().total_seconds()
    return seconds
