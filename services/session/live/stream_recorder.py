"""Recording state of a live stream, between the frame loop and the utterances."""

from __future__ import annotations

from warmtalk.services.session.live.clip_recorder import ClipRecorder
from warmtalk.services.session.live.compositor import EncodedFrame
from warmtalk.services.session.live.frame_sequencer import FramePlan
from warmtalk.services.session.session_files import SessionFiles


class StreamRecorder:
    """Passes the frames of one stream to the clip of the utterance in progress. Event loop only.

    The frame loop calls `record` for every frame; an utterance calls `start` and `stop`.
    """

    def __init__(self, files: SessionFiles) -> None:
        self._files = files
        self._recorder: ClipRecorder | None = None
        self._idle_frames = 0
        """Idle frames in a row up to now."""
        self.open_mouth: FramePlan | None = None
        """Last frame of the latest clip when the mouth is open there; the next clip closes the mouth first."""

    def conversation_s(self) -> float:
        """Returns the length of the conversation in seconds, the clip in progress included."""
        clip_frames = 0 if self._recorder is None else self._recorder.timeline.frames
        return self._files.clock.seconds_at(self._files.record.conversation.frames + clip_frames)

    def start(self, recorder: ClipRecorder) -> None:
        """Records the next speech segment and all later frames with `recorder`."""
        self._recorder = recorder

    def stop(self) -> None:
        """Ends the recording; later frames are not part of a clip. Idempotent."""
        self._recorder = None

    async def record(self, frame: EncodedFrame) -> None:
        """Takes one frame shown by the stream. Waits for the clip to open and for a clip that is far behind.

        Raises the errors of SessionFiles.begin_clip and of the writes.
        """
        plan, recorder = frame.plan, self._recorder
        if recorder is not None:
            if plan.starts_segment and not recorder.started:
                await recorder.begin(plan.source_index, self._idle_frames, self.open_mouth)
                if recorder.started:
                    self.open_mouth = None
            await recorder.record(frame)
        self._idle_frames = 0 if plan.speech else self._idle_frames + 1

    def release(self) -> None:
        """Drops everything that holds image data, after the last frame of the stream."""
        self.stop()
        self.open_mouth = None
