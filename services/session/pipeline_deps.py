"""Dependencies and options shared by the offline and the live pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field

from warmtalk.avatar.source_frames import SourceFrameCache
from warmtalk.media.h264 import X264Settings
from warmtalk.media.live_encoder import LiveSettings
from warmtalk.services.session.infer_client import InferClient


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Options of live streams."""

    encoder: LiveSettings = field(default_factory=LiveSettings)
    ahead_s: float = 0.1
    """Seconds by which frames are produced before the player needs them."""
    max_idle_s: float = 0.6
    """Maximum idle time between two utterances in the recorded conversation, in seconds."""


@dataclass(frozen=True, slots=True)
class PipelineDeps:
    """Objects and limits that every utterance uses."""

    avatars: SourceFrameCache
    infer: InferClient
    x264: X264Settings
    """Encoder settings of clips that are not live."""
    batch_frames: int
    max_clip_s: float
    live: LiveOptions = field(default_factory=LiveOptions)
