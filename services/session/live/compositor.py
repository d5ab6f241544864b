"""Composites and encodes the frames of a live stream. Worker threads only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from warmtalk.avatar.source_frames import SourceFrameCache, SourceFrames
from warmtalk.core.types import Box, FrameClock, Patch, cycle_row
from warmtalk.media.h264 import EncodedPicture, X264Settings
from warmtalk.media.i420 import I420, paste_patch
from warmtalk.media.live_encoder import Fragment, LiveEncoder, LiveSettings
from warmtalk.services.session.live.frame_sequencer import FramePlan
from warmtalk.services.session.session_record import SessionRecord


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame as the stream shows the frame."""

    plan: FramePlan
    image: I420
    encoded: EncodedPicture
    position: int
    """48 kHz samples of the stream before the frame."""


class FrameCompositor:
    """Frames of one stream. One thread at a time; `composite` is for any thread."""

    def __init__(self, source_frames: SourceFrames, settings: LiveSettings, clock: FrameClock) -> None:
        """`clock` has the rate of the conversation."""
        self._source_frames = source_frames
        width, height = source_frames.info.width, source_frames.info.height
        self.encoder = LiveEncoder(width + width % 2, height + height % 2, settings, clock)

    @classmethod
    def open(cls, avatars: SourceFrameCache, record: SessionRecord, settings: LiveSettings) -> FrameCompositor:
        """Opens the avatar and the encoder of a session. Raises the errors of SourceFrameCache.get."""
        source_frames = avatars.get(record.avatar_id)
        conversation = record.conversation
        if conversation.clips:  # with the settings of the earlier clips, new clips can copy the frames of the stream
            settings = replace(settings, x264=X264Settings(conversation.preset, conversation.crf))
        return cls(source_frames, settings, record.clock)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the source frames in pixels; the stream rounds up to even numbers."""
        return self._source_frames.info.width, self._source_frames.info.height

    @property
    def avatar_id(self) -> str:
        """Id of the avatar."""
        return self._source_frames.info.avatar_id

    @property
    def source_sha256(self) -> str:
        """Checksum of the avatar bundle."""
        return self._source_frames.info.source_sha256

    def encode_frame(self, plan: FramePlan, *, flush: bool) -> tuple[EncodedFrame, Fragment | None]:
        """Returns the frame, and the fragment completed by the frame, if any.

        The first frame of a segment is a key frame; `flush` completes the fragment with the frame.
        """
        image, position = self.composite(plan), self.encoder.duration_samples
        fragment = self.encoder.write_frame(image, plan.audio, flush=flush, keyframe=plan.starts_segment)
        return EncodedFrame(plan, image, self.encoder.last_picture, position), fragment

    def end_fragment(self) -> Fragment | None:
        """Completes the fragment with the last frame; None when the fragment is empty."""
        return self.encoder.flush_fragment()

    def composite(self, plan: FramePlan) -> I420:
        """Returns the image of a plan. Read-only: an idle image is the cached source frame."""
        row = cycle_row(plan.source_index, len(self._source_frames))
        source = self._source_frames.source_frame(row)
        if plan.patch is None or plan.patch.box.empty or not self._source_frames.usable(row):
            return source
        image = source.copy()
        paste_patch(image, self._patch_box(row, plan.patch), plan.patch.pixels, plan.patch_weight)
        return image

    def close(self) -> None:
        """Frees the encoder. Idempotent."""
        self.encoder.close()

    def _patch_box(self, row: int, patch: Patch) -> Box:
        """Returns the box of the patch on `row`: the face moves from row to row, and the patch moves with the face."""
        if row == patch.row:
            return patch.box
        target, origin = self._source_frames.crop_box(row), self._source_frames.crop_box(patch.row)
        dx = (target.x1 + target.x2 - origin.x1 - origin.x2) // 2
        dy = (target.y1 + target.y2 - origin.y1 - origin.y2) // 2
        box, (width, height) = patch.box, self.size
        dx = min(max(dx, -box.x1), width - box.x2)
        dy = min(max(dy, -box.y1), height - box.y2)
        return Box(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)
