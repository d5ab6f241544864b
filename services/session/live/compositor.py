"""Makes the pictures of a live stream and codes them. Worker threads only."""

from __future__ import annotations

from dataclasses import dataclass

from warmtalk.avatar.source_frames import SourceFrames
from warmtalk.core.types import Box, FrameClock, Patch, cycle_row
from warmtalk.media.h264 import EncodedPicture
from warmtalk.media.i420 import I420, paste_patch
from warmtalk.media.live_encoder import Fragment, LiveEncoder, LiveSettings
from warmtalk.services.session.live.frame_sequencer import FramePlan


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame as the stream shows it."""

    shot: FramePlan
    picture: I420
    coded: EncodedPicture
    start: int
    """Samples of the stream before it."""


class FrameCompositor:
    """One stream. One thread at a time, but for `picture`."""

    def __init__(self, footage: SourceFrames, settings: LiveSettings, clock: FrameClock) -> None:
        """`clock` is the conversation's."""
        self._footage = footage
        width, height = footage.info.width, footage.info.height
        self.encoder = LiveEncoder(width + width % 2, height + height % 2, settings, clock)

    def shoot(self, shot: FramePlan, flush: bool) -> tuple[EncodedFrame, Fragment | None]:
        """The picture, and the fragment that is full with it. The first of a take is a key picture."""
        picture, start = self.picture(shot), self.encoder.duration_samples
        fragment = self.encoder.write_frame(picture, shot.sound, flush=flush, keyframe=shot.first)
        return EncodedFrame(shot, picture, self.encoder.last_picture, start), fragment

    def cut(self) -> Fragment | None:
        """Ends the fragment with the last picture."""
        return self.encoder.flush_fragment()

    def picture(self, shot: FramePlan) -> I420:
        """Any thread. Not to be written into: an idle picture is the source itself."""
        row = cycle_row(shot.index, len(self._footage))
        source = self._footage.source(row)
        if shot.patch is None or shot.patch.box.empty or not self._footage.usable(row):
            return source
        picture = source.copy()
        paste_patch(picture, self._place(row, shot.patch), shot.patch.pixels, shot.mix)
        return picture

    def close(self) -> None:
        self.encoder.close()

    def _place(self, row: int, patch: Patch) -> Box:
        """Where a patch lies on this row: with the face, which moves from row to row."""
        if row == patch.row:
            return patch.box
        now, then = self._footage.crop_box(row), self._footage.crop_box(patch.row)
        right, down = (now.x1 + now.x2 - then.x1 - then.x2) // 2, (now.y1 + now.y2 - then.y1 - then.y2) // 2
        box = patch.box
        width, height = self._footage.info.width, self._footage.info.height
        right = min(max(right, -box.x1), width - box.x2)
        down = min(max(down, -box.y1), height - box.y2)
        return Box(box.x1 + right, box.y1 + down, box.x2 + right, box.y2 + down)
