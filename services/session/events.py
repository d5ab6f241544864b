"""Events of a Speak or a Converse call, before the conversion to messages. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from warmtalk.media.live_encoder import Fragment
from warmtalk.services.session.session_record import ClipRecord, ConversationRecord


@dataclass(frozen=True, slots=True)
class Accepted:
    """The utterance has a place in the queue of the session."""

    queued_before: int
    """Number of utterances in front."""
    sentences: int


@dataclass(frozen=True, slots=True)
class Started:
    """The first frame of the utterance is ready."""

    delay_s: float
    """Time since the request."""
    stream_start_s: float | None = None
    """Position of the first frame in a live stream; None outside live streams."""


@dataclass(frozen=True, slots=True)
class SpeakProgress:
    """Frames of the clip already rendered, and frames whose audio is known."""

    frames_done: int
    frames_known: int


@dataclass(frozen=True, slots=True)
class ClipReady:
    """The clip is on disk and part of the conversation."""

    conversation: ConversationRecord
    clip: ClipRecord


@dataclass(frozen=True, slots=True)
class ConversationUpdated:
    """The conversation video has become longer."""

    conversation: ConversationRecord


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an utterance."""

    frames: int
    """Frames of the clip; 0 when nothing was kept."""
    elapsed_s: float
    """Time since the request."""


@dataclass(frozen=True, slots=True)
class SpeechInterrupted:
    """The utterance was interrupted; the first `played_s` seconds of speech are kept."""

    played_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """Format of a live stream; the first event of the stream."""

    mime_type: str
    width: int
    height: int
    fps: Fraction


@dataclass(frozen=True, slots=True)
class Media:
    """One fragment of a live stream."""

    fragment: Fragment
    speech: bool
    """True when a frame of the fragment belongs to an utterance."""


@dataclass(frozen=True, slots=True)
class RateChanged:
    """The frame rate of a live stream from the next frame on."""

    fps: Fraction


Body: TypeAlias = (
    Accepted
    | Started
    | SpeakProgress
    | ClipReady
    | ConversationUpdated
    | Finished
    | SpeechInterrupted
    | Opened
    | Media
    | RateChanged
)


@dataclass(frozen=True, slots=True)
class Event:
    """An event with the length of the conversation at that moment."""

    conversation_s: float
    """Includes the frames of the clip in progress."""
    body: Body
