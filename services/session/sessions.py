"""All sessions: who may speak when. Knows nothing of messages; for one event loop."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc

from warmtalk.config import SessionConfig
from warmtalk.core.errors import AlreadyExists, Busy, Damaged, Interrupted, InvalidInput, NotFound, WarmtalkError
from warmtalk.core.ports import SpeechChunk, Voice
from warmtalk.media import audio_decode
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.clip_pipeline import ClipPipeline, PipelineDeps
from warmtalk.services.session.live.live_utterance import LiveUtterance
from warmtalk.services.session.live.stream import LiveStream
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ConversationRecord, SessionRecord
from warmtalk.services.session.speech_queue import QueueSlot, SpeakUtterance
from warmtalk.store import SessionStore, checked_id
from warmtalk.v1 import infer_pb2
from warmtalk.v1.infer_pb2_grpc import InferServiceStub
from warmtalk.voices.sentences import is_speakable, split_sentences

if TYPE_CHECKING:  # this class exists for the type checker alone
    from warmtalk.v1.infer_pb2_grpc import InferServiceAsyncStub

log = logging.getLogger(__name__)
T = TypeVar("T")

_POOL_THREADS = 4
_WARM_S = 60.0
_MOST_AUDIO = 30 << 20


class Sessions:
    """Opened with `start`, ended with `close`."""

    def __init__(
        self, store: SessionStore, studio: PipelineDeps, voice: Voice, config: SessionConfig, default_avatar: str = ""
    ) -> None:
        self._store = store
        self._studio = studio
        self._voice = voice
        self._config = config
        self._default_avatar = default_avatar
        self._live: dict[str, _SessionState] = {}
        self._damaged: dict[str, Damaged] = {}
        self._creating = asyncio.Lock()
        self._warming: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="session")

    async def start(self) -> None:
        """Reads every session and mends what a crash has left."""
        for session_id in await self._in_pool(self._store.ids):
            try:
                folder = await self._in_pool(SessionFiles.open, self._store.path(session_id))
                self._live[session_id] = _SessionState(folder)
            except Damaged as error:
                log.error("%s", error)
                self._damaged[session_id] = error

    async def close(self) -> None:
        """Ends every Speak; nothing of them is kept."""
        for task in self._warming:
            task.cancel()
        for live in self._live.values():
            if live.stream is not None:
                live.stream.fail(Interrupted("the session service is shutting down", "Try again when it is back"))
                await live.stream.ended()
        tickets = [ticket for live in self._live.values() for ticket in live.queue]
        for ticket in tickets:
            ticket.interrupt(Interrupted("the session service is shutting down", "Try again when it is back"))
        await asyncio.gather(*(ticket.left.wait() for ticket in tickets))
        self._pool.shutdown(wait=True)

    def get(self, session_id: str) -> tuple[SessionFiles, bool]:
        """(session, whether it is speaking). Raises InvalidInput, NotFound, Damaged."""
        live = self._find(session_id)
        return live.folder, bool(live.queue)

    def all(self) -> list[tuple[SessionFiles, bool]]:
        """The newest first."""
        live = [one for one in self._live.values() if not one.gone]
        live.sort(key=lambda one: (one.record.created, one.record.session_id), reverse=True)
        return [(one.folder, bool(one.queue)) for one in live]

    async def create(self, session_id: str, avatar_id: str, fps: Fraction | None) -> SessionFiles:
        """Raises InvalidInput, NotFound, NotReady, Damaged (the avatar), AlreadyExists, StorageFull."""
        session_id = checked_id(session_id, "session_id") if session_id else f"s-{uuid.uuid4().hex[:12]}"
        avatar_id = avatar_id or self._default_avatar
        if not avatar_id:
            hint = "Name one that `warmtalk avatar list` shows, or set avatar_id in the configuration"
            raise InvalidInput("avatar_id is missing: a new session needs one", hint, field="avatar_id")
        async with self._creating:
            if session_id in self._damaged:
                raise self._damaged[session_id]
            if session_id in self._live:
                return self._same(self._live[session_id], avatar_id, fps)
            footage = await self._in_pool(self._studio.avatars.get, avatar_id)
            rate = str(fps or footage.info.rate)
            path = self._store.path(session_id)
            folder = await self._in_pool(SessionFiles.create, path, avatar_id, rate, self._studio.x264)
            self._live[session_id] = _SessionState(folder)
            self._begin_warming(avatar_id)
            return folder

    def speak(self, session_id: str, *, text: str = "", audio: bytes = b"") -> SpeakUtterance:
        """Takes the next place in the session's queue. The caller reads `events` and calls `close`.

        Raises InvalidInput, NotFound, Damaged, Busy; all else comes out of `events`.
        """
        live = self._find(session_id)
        if len(audio) > _MOST_AUDIO:
            raise InvalidInput(f"audio has {len(audio)} bytes", f"Send at most {_MOST_AUDIO}", field="audio")
        if len(live.queue) > self._config.max_queue:
            raise Busy(
                f"{self._config.max_queue} utterances of session {session_id!r} wait already",
                "Wait for one of them to finish",
                retry_after_s=2.0,
            )
        utterance = SpeakUtterance(live.folder, live.queue)
        utterance.start(self._say(live, utterance, text, audio))
        return utterance

    def converse(self, session_id: str, *, fragment_s: float, idle: bool) -> LiveStream:
        """Starts a live stream; one that the session has already ends. The caller reads `events` and calls `close`.

        Raises NotFound, Damaged; all else comes out of `events`.
        """
        live = self._find(session_id)
        if live.stream is not None:
            live.stream.fail(Interrupted(f"another Converse of session {session_id!r} took over"))
        options = self._studio.live
        options = replace(options, encoder=replace(options.encoder, fragment_s=fragment_s))
        make_input = partial(
            UtteranceInput, self._voice, max_chars=self._config.max_text_chars, max_s=self._config.max_clip_s
        )
        stream = LiveStream(live.folder, live.queue, self._studio, options, make_input, idle=idle)
        live.stream = stream
        stream.start()
        self._begin_warming(live.record.avatar_id)
        return stream

    async def interrupt(self, session_id: str, played_s: float | None) -> float | None:
        """Seconds that are kept of what the session was saying; None when it said nothing."""
        live = self._find(session_id)
        acting = live.queue[0] if live.queue else None
        stopped: SpeakUtterance | LiveUtterance | None = None
        if isinstance(acting, SpeakUtterance) and acting.cut(played_s):
            stopped = acting
        elif isinstance(acting, LiveUtterance) and live.stream is not None:
            stopped = live.stream.interrupt(played_s=played_s)
        if stopped is None:
            return None
        await asyncio.wait([stopped.kept])
        return None if stopped.kept.cancelled() else stopped.kept.result()

    async def reset(self, session_id: str, *, delete: bool) -> tuple[SessionFiles, ConversationRecord | None]:
        """(session, the conversation that was closed and kept). Ends every Speak that came before."""
        live = self._find(session_id)
        why = Interrupted(f"session {session_id!r} was reset", "Speak again to begin the next conversation")
        closed = await self._alone(live, why, lambda: live.folder.reset(self._studio.x264, delete=delete))
        return live.folder, closed

    async def delete(self, session_id: str) -> None:
        """Ends every Speak that came before. Also removes a session that is damaged."""
        if checked_id(session_id, "session_id") in self._damaged:
            await self._in_pool(shutil.rmtree, self._store.path(session_id))
            del self._damaged[session_id]
            return
        live = self._find(session_id)
        live.gone = True
        why = Interrupted(f"session {session_id!r} was deleted")
        try:
            await run_to_completion(self._alone(live, why, live.folder.delete))
        finally:
            self._live.pop(session_id, None)

    def _begin_warming(self, avatar_id: str) -> None:
        self._warming.add(task := asyncio.create_task(self._warm(avatar_id)))
        task.add_done_callback(self._warming.discard)

    async def _warm(self, avatar_id: str) -> None:
        """So that what is said first need not wait for the avatar; it says what is wrong, if anything is."""
        stub: InferServiceAsyncStub = InferServiceStub(self._studio.infer)
        request = infer_pb2.WarmAvatarRequest(avatar_id=avatar_id)
        try:
            footage = await self._in_pool(self._studio.avatars.get, avatar_id)
            await asyncio.gather(stub.WarmAvatar(request, timeout=_WARM_S), self._in_pool(footage.source, 0))
        except (grpc.aio.AioRpcError, WarmtalkError) as error:
            log.info("avatar %s is not warm: %s", avatar_id, error)

    async def _alone(self, live: _SessionState, why: Interrupted, work: Callable[[], T]) -> T:
        """Ends what is in the queue, then does the work in its turn. Work that has begun is finished."""
        if live.stream is not None:
            live.stream.fail(why)
        before = list(live.queue)
        ticket = QueueSlot(live.queue)
        try:
            for one in before:
                one.interrupt(why)
            await ticket.turn.wait()
            return await run_to_completion(self._in_pool(work))
        finally:
            ticket.leave()

    async def _say(self, live: _SessionState, utterance: SpeakUtterance, text: str, audio: bytes) -> None:
        begin = time.monotonic()
        if audio:
            checked = await self._in_pool(lambda: audio_decode.decode_audio(audio, max_s=self._config.max_clip_s))
            source, parts = self._play(checked), 1
        else:
            spoken = self._sentences(text)
            source, parts = self._read_out(spoken), len(spoken)
        utterance.accept(parts)
        await utterance.turn.wait()
        if live.gone:
            raise NotFound(f"session {live.record.session_id!r} was deleted")
        speaker = ClipPipeline(self._studio, live.folder, utterance.emit, begin)
        utterance.begin(speaker)
        await speaker.say(text, source)

    def _sentences(self, text: str) -> list[str]:
        if not text.strip():
            raise InvalidInput("text is empty", "Send a text or a sound", field="text")
        if len(text) > self._config.max_text_chars:
            raise InvalidInput(
                f"text has {len(text)} characters", f"Send at most {self._config.max_text_chars}", field="text"
            )
        if not is_speakable(text):
            raise InvalidInput("text has no letter or digit to say", "Send words", field="text")
        return split_sentences(text)

    async def _read_out(self, parts: list[str]) -> AsyncGenerator[SpeechChunk, None]:
        for sentence in parts:
            pieces = cast(AsyncGenerator[SpeechChunk, None], self._voice.synthesize(sentence))
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    async def _play(self, checked: audio_decode.AudioFile) -> AsyncGenerator[SpeechChunk, None]:
        pieces = checked.chunks()
        try:
            while (piece := await run_to_completion(self._in_pool(next, pieces, None))) is not None:
                yield SpeechChunk(piece, checked.rate_hz)
        finally:
            await self._in_pool(pieces.close)

    def _find(self, session_id: str) -> _SessionState:
        if checked_id(session_id, "session_id") in self._damaged:
            raise self._damaged[session_id]
        live = self._live.get(session_id)
        if live is None or live.gone:
            hint = f"Make it: warmtalk speak --session {session_id} --avatar ID --text TEXT, or CreateSession"
            raise NotFound(f"there is no session {session_id!r}", hint)
        return live

    @staticmethod
    def _same(live: _SessionState, avatar_id: str, fps: Fraction | None) -> SessionFiles:
        record = live.record
        if live.gone:
            raise Busy(f"session {record.session_id!r} is being deleted", "Try again")
        if record.avatar_id != avatar_id:
            raise AlreadyExists(
                f"session {record.session_id!r} is there with avatar {record.avatar_id!r}", "Take another session_id"
            )
        if fps is not None and Fraction(record.fps) != fps:
            raise AlreadyExists(
                f"session {record.session_id!r} is there with {record.fps} fps", "Take another session_id"
            )
        return live.folder

    def _in_pool(self, work: Callable[..., T], *args: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work, *args)


class _SessionState:
    """A session and its queue; the first in the queue is the one that acts."""

    def __init__(self, folder: SessionFiles) -> None:
        self.folder = folder
        self.queue: list[QueueSlot] = []
        self.stream: LiveStream | None = None
        self.gone = False

    @property
    def record(self) -> SessionRecord:
        return self.folder.record
