"""The client's messages of a Converse as calls on its stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from warmtalk.core.errors import InvalidInput, WarmtalkError
from warmtalk.services.session.live.stream import LiveStream
from warmtalk.services.session.live.utterance_input import pcm
from warmtalk.v1 import session_pb2

log = logging.getLogger(__name__)

_CONFIG_WAIT_S = 20.0
_RATE_HZ, _LOWEST_HZ, _HIGHEST_HZ = 16_000, 8_000, 48_000
_FRAGMENT_S, _SHORTEST_S, _LONGEST_S = 0.1, 0.04, 1.0


@dataclass(frozen=True, slots=True)
class ConverseSettings:
    """ConverseConfig with its defaults filled in."""

    session_id: str
    rate_hz: int
    channels: int
    idle: bool
    fragment_s: float


async def read_settings(requests: AsyncIterator[session_pb2.ConverseRequest]) -> ConverseSettings:
    """Reads the first message. Raises InvalidInput when it is no good config, or does not come."""
    try:
        first = await asyncio.wait_for(anext(aiter(requests), session_pb2.ConverseRequest()), _CONFIG_WAIT_S)
    except TimeoutError as error:
        raise InvalidInput(f"no config came in {_CONFIG_WAIT_S:g} s", "Send it first", field="config") from error
    if first.WhichOneof("message") != "config":
        raise InvalidInput("the first message of Converse is not a config", "Send ConverseConfig first", field="config")
    config = first.config
    rate_hz, channels = config.sample_rate_hz or _RATE_HZ, config.channels or 1
    if not _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ:
        raise InvalidInput(
            f"sample_rate_hz is {rate_hz}", f"Use {_LOWEST_HZ} to {_HIGHEST_HZ}", field="config.sample_rate_hz"
        )
    if channels not in (1, 2):
        raise InvalidInput(f"channels is {channels}", "Use 1 or 2", field="config.channels")
    fragment_s = _seconds(config.fragment_duration) or _FRAGMENT_S
    if not _SHORTEST_S <= fragment_s <= _LONGEST_S:
        raise InvalidInput(
            f"fragment_duration is {fragment_s:g} s", "Use 40 ms to 1 s", field="config.fragment_duration"
        )
    idle = config.idle if config.HasField("idle") else True
    return ConverseSettings(config.session_id, rate_hz, channels, idle, fragment_s)


async def read_requests(
    requests: AsyncIterator[session_pb2.ConverseRequest], stream: LiveStream, settings: ConverseSettings
) -> None:
    """Until the client has no more to say. What is wrong with a message ends the stream."""
    try:
        async for request in requests:
            _do(request, stream, settings)
            await stream.room()
        stream.finish()
    except WarmtalkError as error:
        stream.fail(error)
    except Exception:  # the call is over in one of grpc.aio's ways
        log.debug("a client went away", exc_info=True)
        stream.close()


def _do(request: session_pb2.ConverseRequest, stream: LiveStream, settings: ConverseSettings) -> None:
    match request.WhichOneof("message"):
        case "text":
            stream.add_text(request.text)
        case "pcm_s16le":
            stream.add_sound(pcm(request.pcm_s16le, settings.channels), settings.rate_hz)
        case "interrupt":
            told = _seconds(request.interrupt.position) if request.interrupt.HasField("position") else None
            stream.interrupt(position_s=told)
        case "end":
            stream.end()
        case "playback":
            stream.played(_seconds(request.playback.position))
        case "config":
            raise InvalidInput("a second config came", "Send it once, first", field="config")
        case None:
            raise InvalidInput("a message carries nothing", "Send text, pcm_s16le, interrupt, end or playback")


def _seconds(duration: Duration) -> float:
    seconds: float = duration.ToTimedelta().total_seconds()
    return seconds
