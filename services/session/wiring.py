"""Builds the service out of its parts."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from dataclasses import dataclass

import cv2
import grpc

from warmtalk.avatar.source_frames import SourceFrameCache
from warmtalk.config import Config, SessionConfig
from warmtalk.core.errors import InvalidInput, NotReady, Unreachable
from warmtalk.core.ports import Voice
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import LiveSettings
from warmtalk.rpc.client import channel
from warmtalk.rpc.server import Server, serve
from warmtalk.services.session.clip_pipeline import LiveOptions, PipelineDeps
from warmtalk.services.session.servicer import SessionServicer
from warmtalk.services.session.sessions import Sessions
from warmtalk.store import AvatarStore, SessionStore
from warmtalk.v1 import session_pb2_grpc
from warmtalk.voices.openai import OpenAiSettings, OpenAiVoice
from warmtalk.voices.piper import PiperVoice

log = logging.getLogger(__name__)

SERVICE = "warmtalk.v1.SessionService"
_SWITCH_S = 0.0005
"""How long a thread may keep the event loop from running; the default of 5 ms shows as jitter of live streams."""
_M_ARENA_MAX = -8
"""mallopt's, in glibc."""
MESSAGE_BYTES = 32 << 20
"""A whole sound file comes in one message."""


@dataclass(frozen=True, slots=True)
class SessionService:
    """What was built and has to be started and closed."""

    server: Server
    sessions: Sessions
    voice: Voice
    infer: grpc.aio.Channel

    async def start(self) -> None:
        """Answers when it returns. Mends every session first."""
        await self.server.start()
        await self.warm_up()
        await self.server.ready()

    async def warm_up(self) -> None:
        await self.sessions.start()
        try:
            await self.voice.warm_up()
        except (NotReady, Unreachable) as error:
            log.warning("texts cannot be said: %s", error)

    async def close(self) -> None:
        """After the server has stopped."""
        await self.sessions.close()
        await self.voice.close()
        await self.infer.close()


def voice_of(config: SessionConfig) -> Voice:
    """Raises InvalidInput for a voice that there is not."""
    if config.voice == "piper":
        return PiperVoice()
    if config.voice == "openai":
        return OpenAiVoice(
            OpenAiSettings(config.openai_url, config.openai_model, config.openai_voice, config.openai_key)
        )
    raise InvalidInput(f"session.voice is {config.voice!r}", "Use piper or openai", field="session.voice")


def build(config: Config, voice: Voice | None = None) -> SessionService:
    """Nothing is started yet; within a running event loop. `voice` is for tests; default the configured one."""
    settings = config.session
    voice = voice or voice_of(settings)
    infer = channel(settings.infer, config.api_key)
    studio = PipelineDeps(
        avatars=SourceFrameCache(AvatarStore(config.avatars_dir), settings.cache_mb << 20),
        infer=infer,
        x264=X264Settings(settings.x264_preset, settings.x264_crf),
        batch_frames=config.batch_size,
        max_clip_s=settings.max_clip_s,
        live=LiveOptions(
            LiveSettings(X264Settings(settings.live_preset, settings.live_crf)), settings.live_ahead_s, settings.pause_s
        ),
    )
    sessions = Sessions(SessionStore(config.sessions_dir), studio, voice, settings, config.avatar_id)
    server = Server(settings.listen, SERVICE, api_key=config.api_key, max_message_bytes=MESSAGE_BYTES)
    session_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(sessions), server.grpc)
    return SessionService(server, sessions, voice, infer)


def _few_arenas() -> None:
    """Streams have threads of their own; with an arena of memory for each, what they used is kept many times over."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without it
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


async def run(config: Config) -> None:
    _few_arenas()
    sys.setswitchinterval(_SWITCH_S)
    cv2.setNumThreads(1)  # a face is small: handing parts of it to other threads only waits for them
    parts = build(config)
    await serve(parts.server, warm_up=parts.warm_up, close=[parts.close])
