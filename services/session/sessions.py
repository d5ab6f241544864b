"""Registry of all sessions: create, find, list, reset, delete. Knows no messages."""

from __future__ import annotations

import asyncio
import logging
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from warmtalk.core.errors import AlreadyExists, Busy, Damaged, Interrupted, InvalidInput, NotFound
from warmtalk.services.session.async_utils import run_in_pool, run_to_completion
from warmtalk.services.session.avatar_warmer import AvatarWarmer
from warmtalk.services.session.pipeline_deps import PipelineDeps
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ConversationRecord
from warmtalk.services.session.session_state import SessionState
from warmtalk.store import SessionStore, checked_id

log = logging.getLogger(__name__)

_POOL_THREADS = 4


class Sessions:
    """All sessions on the volume. For one event loop; `start` first, `close` last."""

    def __init__(self, store: SessionStore, deps: PipelineDeps, default_avatar: str = "") -> None:
        """`default_avatar` is used by `create` without an avatar."""
        self._store = store
        self._deps = deps
        self._default_avatar = default_avatar
        self._states: dict[str, SessionState] = {}
        self._damaged: dict[str, Damaged] = {}
        self._creating = asyncio.Lock()
        self.pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="session")
        """Threads for blocking work outside the pipelines."""
        self.warmer = AvatarWarmer(deps, self.pool)

    async def start(self) -> None:
        """Opens every session and repairs the traces of a crash."""
        for session_id in await run_in_pool(self.pool, self._store.ids):
            try:
                files = await run_in_pool(self.pool, SessionFiles.open, self._store.path(session_id))
                self._states[session_id] = SessionState(files)
            except Damaged as error:
                log.error("%s", error)
                self._damaged[session_id] = error

    async def close(self) -> None:
        """Aborts every utterance; clips in progress are discarded."""
        self.warmer.close()
        reason = Interrupted("the session service is shutting down", "Try again when the service has restarted")
        for state in self._states.values():
            await state.shut_down(reason)
        slots = [slot for state in self._states.values() for slot in state.queue]
        for slot in slots:
            slot.abort(reason)
        await asyncio.gather(*(slot.left.wait() for slot in slots))
        self.pool.shutdown(wait=True)

    def find(self, session_id: str) -> SessionState:
        """Returns the session. Raises InvalidInput, NotFound, Damaged."""
        if checked_id(session_id, "session_id") in self._damaged:
            raise self._damaged[session_id]
        state = self._states.get(session_id)
        if state is None or state.deleted:
            hint = f"Make it: warmtalk speak --session {session_id} --avatar ID --text TEXT, or CreateSession"
            raise NotFound(f"there is no session {session_id!r}", hint)
        return state

    def newest_first(self) -> list[SessionState]:
        """Returns all sessions, the newest first."""
        states = [state for state in self._states.values() if not state.deleted]
        return sorted(states, key=lambda state: (state.record.created, state.record.session_id), reverse=True)

    async def create(self, session_id: str, avatar_id: str, fps: Fraction | None) -> SessionFiles:
        """Creates a session, or returns the existing one when avatar and rate agree.

        Raises InvalidInput, NotFound, NotReady, Damaged (the avatar), AlreadyExists, StorageFull.
        """
        session_id = checked_id(session_id, "session_id") if session_id else f"s-{uuid.uuid4().hex[:12]}"
        avatar_id = avatar_id or self._default_avatar
        if not avatar_id:
            hint = "Name an avatar listed by `warmtalk avatar list`, or set avatar_id in the configuration"
            raise InvalidInput("avatar_id is missing: a new session needs an avatar", hint, field="avatar_id")
        async with self._creating:
            if session_id in self._damaged:
                raise self._damaged[session_id]
            if session_id in self._states:
                return _existing(self._states[session_id], avatar_id, fps)
            source_frames = await run_in_pool(self.pool, self._deps.avatars.get, avatar_id)
            rate = str(fps or source_frames.info.rate)
            path = self._store.path(session_id)
            files = await run_in_pool(self.pool, SessionFiles.create, path, avatar_id, rate, self._deps.x264)
            self._states[session_id] = SessionState(files)
            self.warmer.start(avatar_id)
            return files

    async def reset(self, session_id: str, *, delete: bool) -> tuple[SessionFiles, ConversationRecord | None]:
        """Aborts all utterances and starts the next conversation.

        Returns (session, the conversation that was closed and kept, if any).
        """
        state = self.find(session_id)
        reason = Interrupted(f"session {session_id!r} was reset", "Speak again to begin the next conversation")
        closed = await state.run_alone(reason, lambda: state.files.reset(self._deps.x264, delete=delete), self.pool)
        return state.files, closed

    async def delete(self, session_id: str) -> None:
        """Aborts all utterances and removes the session. Also removes a damaged session."""
        if checked_id(session_id, "session_id") in self._damaged:
            await run_in_pool(self.pool, shutil.rmtree, self._store.path(session_id))
            del self._damaged[session_id]
            return
        state = self.find(session_id)
        state.deleted = True
        reason = Interrupted(f"session {session_id!r} was deleted")
        try:
            await run_to_completion(state.run_alone(reason, state.files.delete, self.pool))
        finally:
            self._states.pop(session_id, None)


def _existing(state: SessionState, avatar_id: str, fps: Fraction | None) -> SessionFiles:
    """Returns the files of an existing session. Raises AlreadyExists when avatar or rate differ, Busy."""
    record = state.record
    if state.deleted:
        raise Busy(f"session {record.session_id!r} is being deleted", "Try again")
    if record.avatar_id != avatar_id:
        raise AlreadyExists(
            f"session {record.session_id!r} already exists with avatar {record.avatar_id!r}",
            "Choose another session_id",
        )
    if fps is not None and Fraction(record.fps) != fps:
        raise AlreadyExists(
            f"session {record.session_id!r} already exists with {record.fps} fps", "Choose another session_id"
        )
    return state.files
