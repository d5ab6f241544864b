"""Offline pipeline of one Speak: speech -> 48 kHz for the clip, 16 kHz for infer -> patches -> frames -> clip.

All stages run at once: the first sentence is rendered and encoded while the next sentence is synthesised.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from warmtalk.avatar.source_frames import SourceFrames
from warmtalk.core.errors import InvalidInput, WarmtalkError
from warmtalk.core.ports import SpeechChunk
from warmtalk.core.types import CLIP_RATE_HZ, Patch, Samples
from warmtalk.media.clip_writer import ClipWriter
from warmtalk.services.session.async_utils import gather_or_cancel, run_to_completion
from warmtalk.services.session.audio_splitter import AudioSplitter
from warmtalk.services.session.clip_transaction import ClipTransaction
from warmtalk.services.session.events import (
    Body,
    ClipReady,
    ConversationUpdated,
    Finished,
    SpeakProgress,
    SpeechInterrupted,
    Started,
)
from warmtalk.services.session.infer_client import RenderCall, RenderSettings
from warmtalk.services.session.pipeline_deps import PipelineDeps
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ClipRecord

log = logging.getLogger(__name__)


class ClipPipeline:
    """Makes one clip in one session. Call `run` once; a cancelled `run` leaves nothing on disk."""

    def __init__(
        self, deps: PipelineDeps, files: SessionFiles, emit: Callable[[Body, int], None], requested_at: float
    ) -> None:
        """`emit` gets each event and the frames of the clip so far; `requested_at` is a time of time.monotonic()."""
        self._deps = deps
        self._files = files
        self._emit = emit
        self._requested_at = requested_at
        self._first_frame = files.record.conversation.frames
        self._clock = files.clock
        self._audio_samples = 0
        """48 kHz samples known so far."""
        self._frames_done = 0
        self._frames_expected = 0
        self._complete = False
        self._interrupted = asyncio.Event()
        self._max_frames: int | None = None
        """Frames to keep of an interrupted clip; None keeps every frame."""
        self.kept_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Seconds of speech that were kept; set at the end, cancelled when `run` fails."""

    def interrupt(self, played_s: float | None) -> bool:
        """Stops rendering and keeps the first `played_s` seconds; None keeps all rendered frames.

        Returns False when there is nothing to stop.
        """
        if self._complete or self._interrupted.is_set():
            return False
        self._max_frames = None if played_s is None else max(0, round(played_s * self._clock.fps))
        self._interrupted.set()
        return True

    async def run(self, text: str, source: AsyncGenerator[SpeechChunk, None]) -> None:
        """Renders the speech of `source` to a clip and appends the clip to the conversation.

        Raises the errors of the voice, infer, the avatar and the disk; the conversation is then unchanged.
        """
        try:
            committed = await self._make_clip(text, source)
        except BaseException:
            self.kept_s.cancel()
            raise
        if committed is None:
            self._report_nothing_kept()
        else:
            self._report(committed)

    async def _make_clip(self, text: str, source: AsyncGenerator[SpeechChunk, None]) -> ClipRecord | None:
        """Returns the committed clip, or None when no frame was kept."""
        source_frames = await asyncio.to_thread(self._deps.avatars.get, self._files.record.avatar_id)
        size = source_frames.info.width, source_frames.info.height
        async with ClipTransaction(self._files, text, size, self._deps.x264) as clip:
            writer = await clip.writer()
            await self._until_interrupted(self._render(source, source_frames, clip, writer))
            self._complete = True
            frames = self._frames_kept(writer)
            return await clip.commit(frames) if frames else None

    async def _until_interrupted(self, rendering: Coroutine[Any, Any, None]) -> None:
        """Returns when `rendering` has ended, or was cancelled by `interrupt`."""
        task, interrupted = asyncio.create_task(rendering), asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()
            if not task.done():
                task.cancel()
            await run_to_completion(asyncio.wait([task]))
        if not task.cancelled():
            task.result()

    def _frames_kept(self, writer: ClipWriter) -> int:
        if not self._interrupted.is_set():
            self._check_length(writer.frames)
            return writer.frames
        return writer.frames if self._max_frames is None else min(self._max_frames, writer.frames)

    def _check_length(self, frames: int) -> None:
        if frames != self._frames_expected:
            raise WarmtalkError(f"infer sent {frames} of {self._frames_expected} frames")

    async def _render(
        self,
        source: AsyncGenerator[SpeechChunk, None],
        source_frames: SourceFrames,
        clip: ClipTransaction,
        writer: ClipWriter,
    ) -> None:
        settings = RenderSettings(
            avatar_id=source_frames.info.avatar_id,
            source_sha256=source_frames.info.source_sha256,
            clock=self._clock,
            start_index=self._files.record.conversation.next_index,
            batch_frames=self._deps.batch_frames,
        )
        render_call = self._deps.infer.render(settings)
        await gather_or_cancel(
            self._send_speech(source, render_call, clip, writer),
            self._write_frames(render_call, source_frames, clip, writer),
        )

    async def _send_speech(
        self,
        source: AsyncGenerator[SpeechChunk, None],
        render_call: RenderCall,
        clip: ClipTransaction,
        writer: ClipWriter,
    ) -> None:
        """Writes the audio to the clip and sends the audio to infer, padded to whole frames at the end."""
        splitter = AudioSplitter(self._clock, self._first_frame)
        async with aclosing(source) as chunks:
            async for speech in chunks:
                playback_audio, model_audio = await clip.submit(splitter.push_audio, speech)
                await self._write_audio(playback_audio, clip, writer)
                await render_call.send_audio(model_audio)
        playback_audio, model_audio = await clip.submit(splitter.finish)
        await self._write_audio(playback_audio, clip, writer)
        await render_call.send_audio(model_audio)
        render_call.end_audio()
        self._frames_expected = splitter.frames

    async def _write_audio(self, samples: Samples, clip: ClipTransaction, writer: ClipWriter) -> None:
        self._audio_samples += len(samples)
        if self._audio_samples > self._deps.max_clip_s * CLIP_RATE_HZ:
            raise InvalidInput(f"the text takes longer than {self._deps.max_clip_s:g} s to say", "Send it in parts")
        await clip.submit(writer.write_audio, samples)

    async def _write_frames(
        self, render_call: RenderCall, source_frames: SourceFrames, clip: ClipTransaction, writer: ClipWriter
    ) -> None:
        async with aclosing(render_call.patches()) as batches:
            async for patches in batches:
                await clip.submit(_write_patches, source_frames, patches, writer)
                if not self._frames_done:
                    self._emit(Started(time.monotonic() - self._requested_at), len(patches))
                self._frames_done += len(patches)
                render_call.grant_credit(len(patches))
                frames_known = self._clock.frames_for(self._audio_samples, CLIP_RATE_HZ)
                self._emit(SpeakProgress(self._frames_done, frames_known), self._frames_done)

    def _report_nothing_kept(self) -> None:
        self.kept_s.set_result(0.0)
        self._emit(SpeechInterrupted(0.0), 0)
        self._emit(Finished(0, time.monotonic() - self._requested_at), 0)

    def _report(self, clip: ClipRecord) -> None:
        conversation = self._files.record.conversation
        clip_s, elapsed_s = self._clock.seconds_at(clip.frames), time.monotonic() - self._requested_at
        self.kept_s.set_result(clip_s)
        if self._interrupted.is_set():
            self._emit(SpeechInterrupted(clip_s), clip.frames)
        self._emit(ClipReady(conversation, clip), clip.frames)
        self._emit(ConversationUpdated(conversation), clip.frames)
        self._emit(Finished(clip.frames, elapsed_s), clip.frames)
        log.info("session %s: %d frames in %.2f s", self._files.record.session_id, clip.frames, elapsed_s)


def _write_patches(source_frames: SourceFrames, patches: list[Patch], writer: ClipWriter) -> None:
    for patch in patches:
        writer.write_i420(source_frames.composite(patch))
