"""Builds the session service from the configuration."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import sys
from dataclasses import dataclass

import cv2
import grpc

from warmtalk.avatar.source_frames import SourceFrameCache
from warmtalk.config import Config
from warmtalk.core.errors import NotReady, Unreachable
from warmtalk.core.ports import Voice
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import LiveSettings
from warmtalk.rpc.client import channel
from warmtalk.rpc.server import Server, serve
from warmtalk.services.session.infer_client import InferClient
from warmtalk.services.session.pipeline_deps import LiveOptions, PipelineDeps
from warmtalk.services.session.servicer import SessionServicer
from warmtalk.services.session.sessions import Sessions
from warmtalk.services.session.speech_control import SpeechControl
from warmtalk.store import AvatarStore, SessionStore
from warmtalk.v1 import session_pb2_grpc
from warmtalk.voices.registry import VOICES

log = logging.getLogger(__name__)

SERVICE = "warmtalk.v1.SessionService"
_SWITCH_INTERVAL_S = 0.0005
"""Time for which a thread may block the event loop; the default of 5 ms is visible as jitter of live streams."""
_M_ARENA_MAX = -8
"""Parameter number of mallopt in glibc."""
_ARENAS = 2
MESSAGE_BYTES = 32 << 20
"""Maximum size of a message: an audio file is sent as one message."""


@dataclass(frozen=True, slots=True)
class SessionService:
    """The service and the parts that have to be started and closed."""

    server: Server
    sessions: Sessions
    voice: Voice
    infer: grpc.aio.Channel

    async def start(self) -> None:
        """Starts the server; the service answers after the return. Repairs every session first."""
        await self.server.start()
        await self.warm_up()
        await self.server.ready()

    async def warm_up(self) -> None:
        """Opens the sessions and starts the voice. A voice that is not ready is logged; texts then fail."""
        await self.sessions.start()
        try:
            await self.voice.warm_up()
        except (NotReady, Unreachable) as error:
            log.warning("texts cannot be spoken: %s", error)

    async def close(self) -> None:
        """Closes all parts, after the server has stopped."""
        await self.sessions.close()
        await self.voice.close()
        await self.infer.close()


def build(config: Config, voice: Voice | None = None) -> SessionService:
    """Builds the service without starting anything. Call within a running event loop.

    `voice` replaces the configured voice, for tests.
    """
    settings = config.session
    voice = voice or VOICES[settings.voice].load().build(settings)
    infer = channel(settings.infer, config.api_key)
    deps = PipelineDeps(
        avatars=SourceFrameCache(AvatarStore(config.avatars_dir), settings.cache_mb << 20),
        infer=InferClient(infer),
        x264=X264Settings(settings.x264_preset, settings.x264_crf),
        batch_frames=config.batch_size,
        max_clip_s=settings.max_clip_s,
        live=LiveOptions(
            LiveSettings(X264Settings(settings.live_preset, settings.live_crf)), settings.live_ahead_s, settings.pause_s
        ),
    )
    sessions = Sessions(SessionStore(config.sessions_dir), deps, config.avatar_id)
    speech = SpeechControl(sessions, deps, voice, settings)
    server = Server(settings.listen, SERVICE, api_key=config.api_key, max_message_bytes=MESSAGE_BYTES)
    session_pb2_grpc.add_SessionServiceServicer_to_server(SessionServicer(sessions, speech), server.grpc)
    return SessionService(server, sessions, voice, infer)


def _limit_malloc_arenas() -> None:
    """Limits glibc to two arenas. Each stream has threads; one arena per thread would keep freed memory many times."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without mallopt
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


async def run(config: Config) -> None:
    """Serves until the process is asked to stop."""
    _limit_malloc_arenas()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)  # a face is small: distributing the work to threads costs more than the work
    parts = build(config)
    await serve(parts.server, warm_up=parts.warm_up, close=[parts.close])
