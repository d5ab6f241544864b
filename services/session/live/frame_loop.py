"""Frame loop of a live stream. Produces frames at real-time pace, `ahead_s` before the player needs them.

The loop waits for the client to read and for the recording to keep up; infer and the voice wait for the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from warmtalk.core.types import CLIP_RATE_HZ
from warmtalk.media.live_encoder import Fragment
from warmtalk.services.session.async_utils import run_to_completion
from warmtalk.services.session.events import Media, Opened, RateChanged
from warmtalk.services.session.infer_client import RenderSettings
from warmtalk.services.session.live.compositor import EncodedFrame, FrameCompositor
from warmtalk.services.session.live.frame_sequencer import FramePlan, FrameSequencer
from warmtalk.services.session.live.lead_estimator import LeadEstimator
from warmtalk.services.session.live.outbox import EventQueue
from warmtalk.services.session.live.pacer import FramePacer
from warmtalk.services.session.live.rate_control import RateControl
from warmtalk.services.session.live.speech_segment import SpeechSegment
from warmtalk.services.session.live.stream_recorder import StreamRecorder
from warmtalk.services.session.live.time_source import SYSTEM_TIME, TimeSource
from warmtalk.services.session.pipeline_deps import LiveOptions, PipelineDeps
from warmtalk.services.session.session_record import SessionRecord

log = logging.getLogger(__name__)
T = TypeVar("T")

_MAX_UNREAD = 8
"""Fragments that the client has not read; with more, the stream stands still."""
_MAX_UNPLAYED_S = 10.0
"""Maximum distance between the stream and the position reported by the player."""
_AHEAD_FRAMES = 9
"""Frames rendered before the first frame of a segment is shown."""


class FrameLoop:
    """Frames of one stream. For one event loop: `open`, `run` and `close` once each, in this order."""

    def __init__(
        self,
        record: SessionRecord,
        deps: PipelineDeps,
        options: LiveOptions,
        events: EventQueue,
        recorder: StreamRecorder,
        *,
        idle: bool,
        time_source: TimeSource = SYSTEM_TIME,
        open_compositor: Callable[..., FrameCompositor] = FrameCompositor.open,
    ) -> None:
        """`record` gives the avatar, the frame rate and the first source frame of the stream.

        With `idle` the head moves between utterances; without, the stream stands still.
        """
        self.playback_position: int | None = None
        """Position of the player in 48 kHz samples of the stream; None until the client reports a position."""
        self._record = record
        self._deps = deps
        self._options = options
        self._events = events
        self._changed = events.read
        """Set when the client has read or reported a position, when patches arrive, and after each frame."""
        self._recorder = recorder
        self._idle = idle
        self._time = time_source
        self._open_compositor = open_compositor
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._compositor: FrameCompositor | None = None
        self._sequencer = FrameSequencer(record.clock, record.conversation.next_index)
        self._rate = RateControl(record.clock, time_source)
        self._lead = LeadEstimator()
        self._pacer = FramePacer(options.ahead_s, time_source)
        self._segment: SpeechSegment | None = None
        self._on_first_frame: Callable[[float], None] | None = None
        """Called with the stream position in seconds when the first frame of the segment is out."""
        self._fragment_has_speech = False
        self._input_ended = False

    @property
    def compositor(self) -> FrameCompositor:
        """The compositor, after `open`."""
        assert self._compositor is not None, "the frame loop is not open"
        return self._compositor

    async def open(self) -> None:
        """Opens the avatar and the encoder and sends the head of the video. Raises the errors of the avatar."""
        await run_to_completion(self._on_worker(self._open))
        encoder, (width, height) = self.compositor.encoder, self.compositor.size
        self._events.put(Opened(encoder.mime_type, width + width % 2, height + height % 2, self._rate.clock.fps))
        self._events.put(Media(encoder.head, speech=False))
        self._pacer.resume_at(0)

    async def run(self) -> None:
        """Shows frames until the input has ended and all speech was shown."""
        while not (self._input_ended and self._sequencer.is_idle):
            plan = self._sequencer.next_plan(idle=self._idle)
            if plan is None:
                await self._wait_changed()
                self._pacer.resume_at(self._position)
                continue
            await self._show(plan)
            self._lower_rate_if_slow()
            self._changed.set()
            await self._pace()

    async def close(self) -> None:
        """Frees encoder and image data: other objects may hold a reference to the stream for long."""
        if self._compositor is not None:
            await self._on_worker(self._compositor.close)
        self._worker.shutdown(wait=False)
        self._sequencer.release()
        self._segment = self._on_first_frame = None

    def end_input(self) -> None:
        """Ends `run` once all speech was shown."""
        self._input_ended = True
        self._changed.set()

    def set_playback_position(self, position_s: float) -> None:
        """Takes the position of the player, in seconds of the stream."""
        self.playback_position = round(position_s * CLIP_RATE_HZ)
        self._changed.set()

    def open_segment(self, on_first_frame: Callable[[float], None]) -> SpeechSegment:
        """Starts the next speech segment; the segment before must have been shown.

        `on_first_frame` is called with the position of the first frame, in seconds of the stream.
        """
        if self._rate.step_up():
            self._events.put(RateChanged(self._rate.clock.fps))
        time_left_s = self._pacer.time_left_s(self._position)
        lead = self._lead.lead_frames(time_left_s, self._rate.clock.fps) if self._idle else 0
        settings = RenderSettings(
            avatar_id=self.compositor.avatar_id,
            source_sha256=self.compositor.source_sha256,
            clock=self._rate.clock,
            start_index=self._sequencer.source_index + lead,
            batch_frames=self._deps.batch_frames,
            ahead_frames=_AHEAD_FRAMES,
        )
        self._segment = SpeechSegment(self._deps.infer, settings, self._time, self._changed.set)
        self._on_first_frame = on_first_frame
        self._sequencer.start_segment(self._segment)
        self._changed.set()
        return self._segment

    def cut_segment(self) -> None:
        """Drops the segment and closes the mouth."""
        self._segment = None
        self._sequencer.cut_segment()
        self._changed.set()

    def forget_segment(self) -> None:
        """Drops the references to the segment, at the end of an utterance."""
        self._segment = self._on_first_frame = None

    async def wait_segment_shown(self) -> None:
        """Returns when the segment and the closing mouth have been shown."""
        while not self._sequencer.is_idle:
            await self._wait_changed()

    async def _show(self, plan: FramePlan) -> None:
        on_first_frame = self._on_first_frame
        flush = plan.starts_segment or (self._sequencer.is_idle and not self._idle)
        if plan.starts_segment:  # a key frame begins a fragment, so that a player can start there
            self._send(await self._on_worker(self.compositor.end_fragment))
        self._fragment_has_speech = self._fragment_has_speech or plan.speech
        frame, fragment = await self._on_worker(self._encode, plan, flush)
        if fragment is not None:
            await self._pacer.wait_until_send(frame.position)
            self._send(fragment)
        if plan.starts_segment and on_first_frame is not None:
            if self._segment is not None:
                self._lead.update(self._segment.first_frame_delay_s)
            on_first_frame(frame.position / CLIP_RATE_HZ)
        await self._recorder.record(frame)

    def _send(self, fragment: Fragment | None) -> None:
        if fragment is not None:
            self._events.put(Media(fragment, self._fragment_has_speech))
            self._fragment_has_speech = False

    async def _pace(self) -> None:
        """Waits for a client that is behind, then until the next frame is due."""
        while self._events.unread_fragments > _MAX_UNREAD or self._unplayed_s > _MAX_UNPLAYED_S:
            await self._wait_changed()
        await self._pacer.wait_until_due(self._position)

    def _lower_rate_if_slow(self) -> None:
        """Lowers the frame rate when infer is slower than the stream, so that the stream does not stall."""
        segment = self._segment
        if segment is None or not segment.too_slow_fps or segment.clock != self._rate.clock:
            return
        render_fps = segment.too_slow_fps
        if self._rate.step_down(render_fps):
            fps, session_id = self._rate.clock.fps, self._record.session_id
            log.warning("session %s: infer renders %.1f frames/s, changing to %s", session_id, render_fps, fps)
            segment.change_rate(self._rate.clock)
            self._events.put(RateChanged(fps))

    async def _wait_changed(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def _position(self) -> int:
        """Length of the stream so far in 48 kHz samples."""
        return self._compositor.encoder.duration_samples if self._compositor is not None else 0

    @property
    def _unplayed_s(self) -> float:
        """Seconds of the stream that the player has not shown; 0 when the player does not report a position."""
        if self.playback_position is None:
            return 0.0
        return (self._position - self.playback_position) / CLIP_RATE_HZ

    def _open(self) -> None:
        self._compositor = self._open_compositor(self._deps.avatars, self._record, self._options.encoder)

    def _encode(self, plan: FramePlan, flush: bool) -> tuple[EncodedFrame, Fragment | None]:
        return self.compositor.encode_frame(plan, flush=flush)

    async def _on_worker(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
