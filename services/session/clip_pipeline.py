"""One Speak: sound -> 48 kHz for the clip, 16 kHz for infer -> patches -> pictures -> clip -> conversation.

All stages run at once: the first sentence is drawn and encoded while the next one is synthesised.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from warmtalk.avatar.source_frames import SourceFrameCache, SourceFrames
from warmtalk.core.errors import InvalidInput, StorageFull, WarmtalkError
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, Patch, Samples
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import LiveSettings
from warmtalk.services.session.async_utils import gather_or_cancel, run_to_completion
from warmtalk.services.session.audio_splitter import AudioSplitter
from warmtalk.services.session.events import Body, ClipReady, ConversationUpdated, Cut, Finished, SpeakProgress, Started
from warmtalk.services.session.infer_client import RenderCall, RenderSettings
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ClipRecord

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How live streams are made."""

    encoder: LiveSettings = field(default_factory=LiveSettings)
    ahead_s: float = 0.1
    """How far the stream is ahead of its player."""
    most_idle_s: float = 0.6
    """Idle time kept between utterances in the recorded conversation."""


@dataclass(frozen=True, slots=True)
class PipelineDeps:
    """What every Speak uses."""

    avatars: SourceFrameCache
    infer: grpc.aio.Channel
    x264: X264Settings
    batch_frames: int
    max_clip_s: float
    live: LiveOptions = field(default_factory=LiveOptions)


class ClipPipeline:
    """Says one thing in one session. `say` once; cancelling it leaves nothing behind."""

    def __init__(
        self, studio: PipelineDeps, folder: SessionFiles, emit: Callable[[Body, int], None], begin: float
    ) -> None:
        """`emit` gets each event and the frames of the clip so far; `begin` is when the request came, monotonic."""
        self._studio = studio
        self._folder = folder
        self._emit = emit
        self._begin = begin
        self._first = folder.record.conversation.frames
        self._clock = folder.clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="speak")
        self._writer: ClipWriter | None = None
        self._known = 0
        self._complete = False
        self._drawn = 0
        self._expected = 0
        self._most_frames: int | None = None
        self._stop = asyncio.Event()
        self.kept: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Seconds of speech that were kept; set at the end, cancelled when it fails."""

    def cut(self, played_s: float | None) -> bool:
        """Stops drawing and keeps what was played, default all that was drawn. False when there is nothing to stop."""
        if self._complete or self._stop.is_set():
            return False
        self._most_frames = None if played_s is None else max(0, round(played_s * self._clock.fps))
        self._stop.set()
        return True

    async def say(self, text: str, source: AsyncGenerator[SpeechChunk, None]) -> None:
        """Raises what the voice, infer, the avatar and the disk raise; the conversation is then as before."""
        lost, made = "", None
        try:
            footage = await self._on_worker(self._studio.avatars.get, self._folder.record.avatar_id)
            writer = await run_to_completion(self._on_worker(self._open, text, footage))
            await self._until_cut(self._film(source, footage, writer))
            self._complete = True
            if frames := self._frames_kept(writer):
                clip = await self._on_worker(writer.finish, frames)
                made = await run_to_completion(self._on_worker(self._folder.commit, clip))
        except StorageFull as error:
            lost = error.message
            raise
        finally:
            if self._folder.speaking:
                await run_to_completion(self._clean_up(lost))
            self._worker.shutdown(wait=False)
            if sys.exception() is not None:
                self.kept.cancel()
        if made is None:
            self._report_nothing()
        else:
            self._report(made)

    async def _until_cut(self, film: Coroutine[Any, Any, None]) -> None:
        """The whole film, or as much as there is when it is cut."""
        task, stop = asyncio.create_task(film), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
            await run_to_completion(asyncio.wait([task]))
        if not task.cancelled():
            task.result()

    def _frames_kept(self, writer: ClipWriter) -> int:
        if not self._stop.is_set():
            self._check_length(writer.frames)
            return writer.frames
        return writer.frames if self._most_frames is None else min(self._most_frames, writer.frames)

    def _report_nothing(self) -> None:
        self.kept.set_result(0.0)
        self._emit(Cut(0.0), 0)
        self._emit(Finished(0, time.monotonic() - self._begin), 0)

    def _open(self, text: str, footage: SourceFrames) -> ClipWriter:
        self._writer = self._folder.begin(text, footage.info.width, footage.info.height, self._studio.x264)
        return self._writer

    async def _film(self, source: AsyncGenerator[SpeechChunk, None], footage: SourceFrames, writer: ClipWriter) -> None:
        settings = RenderSettings(
            avatar_id=footage.info.avatar_id,
            source_sha256=footage.info.source_sha256,
            clock=self._clock,
            start_index=self._folder.record.conversation.next_index,
            batch_frames=self._studio.batch_frames,
        )
        rendering = RenderCall(self._studio.infer, settings)
        await gather_or_cancel(self._hear(source, rendering, writer), self._draw(rendering, footage, writer))

    async def _hear(self, source: AsyncGenerator[SpeechChunk, None], rendering: RenderCall, writer: ClipWriter) -> None:
        """Sound to the clip and to infer, padded to whole frames at the end."""
        splitter = AudioSplitter(self._clock, self._first)
        async with aclosing(source) as pieces:
            async for speech in pieces:
                loud, heard = await self._on_worker(splitter.accept, speech)
                await self._store(loud, writer)
                await rendering.send(heard)
        loud, heard = await self._on_worker(splitter.finish)
        await self._store(loud, writer)
        await rendering.send(heard)
        rendering.end()
        self._expected = splitter.frames

    def _check_length(self, frames: int) -> None:
        if frames != self._expected:
            raise WarmtalkError(f"infer sent {frames} of {self._expected} frames")

    async def _store(self, samples: Samples, writer: ClipWriter) -> None:
        self._known += len(samples)
        if self._known > self._studio.max_clip_s * CLIP_RATE_HZ:
            raise InvalidInput(f"the text takes longer than {self._studio.max_clip_s:g} s to say", "Send it in parts")
        await self._on_worker(writer.write_audio, samples)

    async def _draw(self, rendering: RenderCall, footage: SourceFrames, writer: ClipWriter) -> None:
        async with aclosing(rendering.patches()) as batches:
            async for patches in batches:
                await self._on_worker(_write_patches, footage, patches, writer)
                if not self._drawn:
                    self._emit(Started(time.monotonic() - self._begin), len(patches))
                self._drawn += len(patches)
                rendering.grant(len(patches))
                self._emit(SpeakProgress(self._drawn, self._clock.frames_for(self._known, CLIP_RATE_HZ)), self._drawn)

    def _report(self, made: ClipRecord) -> None:
        conversation = self._folder.record.conversation
        self.kept.set_result(self._clock.seconds_at(made.frames))
        if self._stop.is_set():
            self._emit(Cut(self._clock.seconds_at(made.frames)), made.frames)
        self._emit(ClipReady(conversation, made), made.frames)
        self._emit(ConversationUpdated(conversation), made.frames)
        self._emit(Finished(made.frames, time.monotonic() - self._begin), made.frames)
        elapsed = time.monotonic() - self._begin
        log.info("session %s: %d frames in %.2f s", self._folder.record.session_id, made.frames, elapsed)

    async def _clean_up(self, lost: str) -> None:
        """Ends the encoder first, which frees the worker, then removes what it left."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.abort)
            await self._on_worker(self._writer.abort)
        await self._on_worker(self._folder.give_up, lost)

    async def _on_worker(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)


def _write_patches(footage: SourceFrames, patches: list[Patch], writer: ClipWriter) -> None:
    for patch in patches:
        writer.write_i420(footage.picture(patch))
