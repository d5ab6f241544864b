"""Starts and interrupts the speech of sessions: Speak, Converse, Interrupt. Knows no messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

from warmtalk.config import SessionConfig
from warmtalk.core.errors import Busy, Interrupted, InvalidInput, NotFound
from warmtalk.core.ports import SpeechChunk, Voice
from warmtalk.media import audio_decode
from warmtalk.services.session.async_utils import run_in_pool
from warmtalk.services.session.clip_pipeline import ClipPipeline
from warmtalk.services.session.live.live_utterance import LiveUtterance
from warmtalk.services.session.live.stream import LiveStream
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.pipeline_deps import PipelineDeps
from warmtalk.services.session.session_state import SessionState
from warmtalk.services.session.sessions import Sessions
from warmtalk.services.session.speak_utterance import SpeakUtterance
from warmtalk.services.session.speech_source import checked_sentences, read_audio_file, read_sentences

_MAX_AUDIO_BYTES = 30 << 20


class SpeechControl:
    """Utterances of all sessions. For one event loop."""

    def __init__(self, sessions: Sessions, deps: PipelineDeps, voice: Voice, config: SessionConfig) -> None:
        self._sessions = sessions
        self._deps = deps
        self._voice = voice
        self._config = config

    def speak(self, session_id: str, *, text: str = "", audio: bytes = b"") -> SpeakUtterance:
        """Takes the next place in the queue of the session. The caller reads `events` and calls `close`.

        Raises InvalidInput, NotFound, Damaged, Busy; `events` raises all other errors.
        """
        state = self._sessions.find(session_id)
        if len(audio) > _MAX_AUDIO_BYTES:
            raise InvalidInput(f"audio has {len(audio)} bytes", f"Send at most {_MAX_AUDIO_BYTES}", field="audio")
        if len(state.queue) > self._config.max_queue:
            raise Busy(
                f"{self._config.max_queue} utterances of session {session_id!r} are waiting already",
                "Wait until one of them has finished",
                retry_after_s=2.0,
            )
        utterance = SpeakUtterance(state.files, state.queue)
        utterance.start(self._run(state, utterance, text, audio))
        return utterance

    def converse(self, session_id: str, *, fragment_s: float, idle: bool) -> LiveStream:
        """Starts a live stream and aborts an earlier one. The caller reads `events` and calls `close`.

        Raises NotFound, Damaged; `events` raises all other errors.
        """
        state = self._sessions.find(session_id)
        if state.stream is not None:
            state.stream.abort(Interrupted(f"another Converse of session {session_id!r} took over"))
        options = self._deps.live
        options = replace(options, encoder=replace(options.encoder, fragment_s=fragment_s))
        make_input = partial(
            UtteranceInput, self._voice, max_chars=self._config.max_text_chars, max_s=self._config.max_clip_s
        )
        state.stream = LiveStream(state.files, state.queue, self._deps, options, make_input, idle=idle)
        state.stream.start()
        self._sessions.warmer.start(state.record.avatar_id)
        return state.stream

    async def interrupt(self, session_id: str, played_s: float | None) -> float | None:
        """Interrupts the utterance at the front of the queue.

        `played_s` is the part that the player has shown; None: all frames so far. Returns the seconds kept; None when
        the session was not speaking.
        """
        state = self._sessions.find(session_id)
        current = state.queue[0] if state.queue else None
        interrupted: SpeakUtterance | LiveUtterance | None = None
        if isinstance(current, SpeakUtterance) and current.interrupt(played_s):
            interrupted = current
        elif isinstance(current, LiveUtterance) and state.stream is not None:
            interrupted = state.stream.interrupt(played_s=played_s)
        if interrupted is None:
            return None
        await asyncio.wait([interrupted.kept_s])
        return None if interrupted.kept_s.cancelled() else interrupted.kept_s.result()

    async def _run(self, state: SessionState, utterance: SpeakUtterance, text: str, audio: bytes) -> None:
        """Checks the input, waits for the turn and makes the clip."""
        requested_at = time.monotonic()
        source: AsyncGenerator[SpeechChunk, None]
        if audio:
            check = partial(audio_decode.decode_audio, audio, max_s=self._config.max_clip_s)
            source = read_audio_file(await run_in_pool(self._sessions.pool, check), self._sessions.pool)
            utterance.accept(1)
        else:
            sentences = checked_sentences(text, self._config.max_text_chars)
            source = read_sentences(self._voice, sentences)
            utterance.accept(len(sentences))
        await utterance.turn.wait()
        if state.deleted:
            raise NotFound(f"session {state.record.session_id!r} was deleted")
        pipeline = ClipPipeline(self._deps, state.files, utterance.emit, requested_at)
        utterance.attach_pipeline(pipeline)
        await pipeline.run(text, source)
