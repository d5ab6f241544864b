"""One utterance of a live conversation: its turn, its takes, its clip."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol

from warmtalk.core.errors import Interrupted, InvalidInput, StorageFull
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.events import Accepted, Body, ClipReady, ConversationUpdated, Cut, Finished, Started
from warmtalk.services.session.live.background_pool import run_in_background
from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.frame_sequencer import FramePlan
from warmtalk.services.session.live.speech_segment import SpeechSegment
from warmtalk.services.session.live.utterance_input import UtteranceInput
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.speech_queue import QueueSlot

log = logging.getLogger(__name__)


class Screen(Protocol):
    """What an utterance needs of the stream that shows it."""

    def open_take(self) -> SpeechSegment: ...
    async def shown(self) -> None:
        """Returns when nothing of a take is left to show."""
        ...

    def stop(self) -> None:
        """Closes the mouth."""
        ...

    async def open_recorder(self) -> ClipRecorder: ...
    def lead_in(self, recorder: ClipRecorder, index: int) -> None: ...
    def ended(self, cut: FramePlan | None) -> None:
        """What the clip shows at its end, if its mouth may be open there."""
        ...

    def emit(self, body: Body) -> None: ...


class LiveUtterance(QueueSlot):
    """For one event loop. `say` once; `cut` at any time."""

    def __init__(
        self,
        folder: SessionFiles,
        queue: list[QueueSlot],
        source: UtteranceInput,
        screen: Screen,
        fail: Callable[[Exception], None],
    ) -> None:
        """`fail` ends the whole stream."""
        super().__init__(queue)
        self.recorder: ClipRecorder | None = None
        """Takes what is shown; None before its turn and after its end."""
        self._folder = folder
        self._source = source
        self._screen = screen
        self._fail = fail
        self._asked = time.monotonic()
        self._started = False
        self._begun = False
        self._over = False
        self._opening: asyncio.Task[ClipRecorder] | None = None
        self._takes: set[asyncio.Task[None]] = set()
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._most_frames: int | None = None
        self.kept: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Seconds of speech that were kept; set at the end, cancelled when it fails."""

    def interrupt(self, why: Interrupted) -> None:
        """The session ends what it does: the whole stream ends."""
        self._fail(why)

    async def say(self) -> None:
        """Raises what the voice, infer, the avatar and the disk raise; the conversation is then as before."""
        self._screen.emit(Accepted(self.before, 1))
        lost = ""
        try:
            if await self._unless_stopped(self._begin()):
                await self._unless_stopped(self._speak())
            await self._keep()
        except StorageFull as error:
            lost = error.message
            raise
        finally:
            try:
                await run_to_completion(self._clean_up(lost))
            finally:
                self.leave()

    def cut(self, position: int | None, played_s: float | None) -> None:
        """Stops here and keeps what was played: up to a place of the stream, or so much of the speech, or all."""
        if self._stop.done():
            return
        if self.recorder is not None:
            if position is not None:
                self._most_frames = self.recorder.frames_before(position)
            elif played_s is not None:
                self._most_frames = self.recorder.lead_in + round(played_s * self._folder.clock.fps)
            most = self.recorder.frames if self._most_frames is None else self._most_frames
            self._most_frames = min(most, self.recorder.frames)
        self._stop.set_result(None)
        self._source.drop()
        self._screen.stop()

    def first_shown(self, stream_s: float) -> None:
        """The first picture of a take is out."""
        if not self._started:
            self._started = True
            self._screen.emit(Started(time.monotonic() - self._asked, stream_s))

    async def recording(self, index: int) -> ClipRecorder | None:
        """What takes this picture of the speech; at the first one, of source frame `index`, it is waited for. None
        when the utterance is over. Raises what SessionFolder.begin raises.
        """
        if self.recorder is None and self._opening is not None and not self._over:
            recorder = await asyncio.shield(self._opening)  # it opens in a thread: a cancel must not lose it
            if not self._over:
                self._screen.lead_in(recorder, index)
                self.recorder = recorder
        return self.recorder

    async def _begin(self) -> None:
        await self.turn.wait()
        self._begun = True
        self._opening = asyncio.create_task(self._screen.open_recorder())  # while the first picture is drawn

    async def _speak(self) -> None:
        take: SpeechSegment | None = None
        async with aclosing(self._source.pieces()) as pieces:
            async for piece in pieces:
                if take is None or take.closed:
                    take = await self._next_take()
                take.push(piece)
                await take.room()
        if take is None:
            raise InvalidInput("the voice finds nothing to say in this text", "Send words in a language that it speaks")
        take.close()
        await self._screen.shown()

    async def _next_take(self) -> SpeechSegment:
        await self._screen.shown()
        take = self._screen.open_take()
        task = asyncio.create_task(take.run())
        self._takes.add(task)
        task.add_done_callback(self._take_ended)
        return take

    def _take_ended(self, task: asyncio.Task[None]) -> None:
        self._takes.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._stop.done():
            self._stop.set_exception(error)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether it came to its end. Raises what the work or a take raises."""
        task = asyncio.create_task(work)
        waits: set[asyncio.Future[None]] = {task, self._stop}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            await run_to_completion(asyncio.wait([task]))
        if self._stop.done():
            if not task.cancelled():
                task.exception()  # seen; the stop counts
            self._stop.result()
            return False
        task.result()
        return True

    async def _keep(self) -> None:
        recorder, self.recorder, self._over = self.recorder, None, True
        frames = 0 if recorder is None else recorder.frames if self._most_frames is None else self._most_frames
        spoken = 0 if recorder is None else max(0, frames - recorder.lead_in)
        spoken_s = self._folder.clock.seconds_at(spoken)
        if self._stop.done():
            self._screen.emit(Cut(spoken_s))
        if recorder is not None and spoken:
            last = recorder.last(frames)
            clip = await recorder.finish(frames)
            following = recorder.following(frames)
            self._screen.ended(last)
            commit = partial(self._folder.commit, clip, self._source.text, following=following)
            made = await run_to_completion(run_in_background(commit))
            self._screen.emit(ClipReady(self._folder.record.conversation, made))
            self._screen.emit(ConversationUpdated(self._folder.record.conversation))
        elif self._begun:
            await run_to_completion(self._forget(""))
        self.kept.set_result(spoken_s)
        elapsed = time.monotonic() - self._asked
        self._screen.emit(Finished(frames if spoken else 0, elapsed))
        log.info("session %s: live, %d frames in %.2f s", self._folder.record.session_id, frames, elapsed)

    async def _clean_up(self, lost: str) -> None:
        self.kept.cancel()
        self._stop.cancel()
        for task in list(self._takes):
            task.cancel()
        await asyncio.gather(*self._takes, return_exceptions=True)
        self.recorder, self._over = None, True
        await self._forget(lost)

    async def _forget(self, lost: str) -> None:
        """Leaves nothing of a clip that was not committed. Idempotent."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if self._opening.exception() is None:
                await self._opening.result().abort()
        if self._begun and self._folder.speaking:
            await asyncio.to_thread(self._folder.give_up, lost)
