"""What a Speak or a Converse tells its caller. `frames` of a clip and times in seconds; no messages of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from warmtalk.media.live_encoder import Fragment
from warmtalk.services.session.session_record import ClipRecord, ConversationRecord


@dataclass(frozen=True, slots=True)
class Accepted:
    queued_before: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Started:
    delay_s: float
    stream_start_s: float | None = None
    """Where it starts within a live stream."""


@dataclass(frozen=True, slots=True)
class SpeakProgress:
    frames_done: int
    frames_known: int


@dataclass(frozen=True, slots=True)
class ClipReady:
    conversation: ConversationRecord
    clip: ClipRecord


@dataclass(frozen=True, slots=True)
class ConversationUpdated:
    conversation: ConversationRecord


@dataclass(frozen=True, slots=True)
class Finished:
    frames: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """It was interrupted."""

    played_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """What a live stream is."""

    mime_type: str
    width: int
    height: int
    fps: Fraction


@dataclass(frozen=True, slots=True)
class Media:
    fragment: Fragment
    speech: bool


@dataclass(frozen=True, slots=True)
class RateChanged:
    fps: Fraction


Body: TypeAlias = (
    Accepted | Started | SpeakProgress | ClipReady | ConversationUpdated | Finished | Cut | Opened | Media | RateChanged
)


@dataclass(frozen=True, slots=True)
class Event:
    conversation_s: float
    """Length of the conversation at this moment, the clip under way included."""
    body: Body
