"""What a Speak tells its caller. `frames` of a clip and times in seconds; no messages of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.session.record import ClipRecord, ConversationRecord


@dataclass(frozen=True, slots=True)
class Accepted:
    queued_before: int
    sentences: int


@dataclass(frozen=True, slots=True)
class Started:
    delay_s: float


@dataclass(frozen=True, slots=True)
class Progress:
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


Body: TypeAlias = Accepted | Started | Progress | ClipReady | ConversationUpdated | Finished


@dataclass(frozen=True, slots=True)
class Event:
    conversation_s: float
    """Length of the conversation at this moment, the clip under way included."""
    body: Body
