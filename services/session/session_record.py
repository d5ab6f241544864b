"""session.json: the record of truth of one session. Plain data and its JSON; no files, no clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, TypeVar

from warmtalk.core.types import FrameClock

SCHEMA = 1
MOST_LOST = 100
"""Lost utterances remembered per conversation; the oldest are forgotten."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip of a conversation. Times are RFC 3339, UTC."""

    number: int
    """Counts the conversation's clips from 1."""
    file: str
    """Name within the conversation's folder."""
    text: str
    """Empty when sound was given."""
    first_frame: int
    frames: int
    samples: int
    """At 48 kHz."""
    created: str


@dataclass(frozen=True, slots=True)
class LostRecord:
    """An utterance that was begun and did not make it."""

    text: str
    reason: str
    started: str


@dataclass(frozen=True, slots=True)
class InProgress:
    """The utterance under way; found at start, it was lost in a crash."""

    text: str
    started: str


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation. `size` bytes of its file are good; what lies behind is a torn append."""

    number: int
    preset: str
    """x264's, fixed for the conversation: clips that are joined by copy need one encoder."""
    crf: int
    width: int = 0
    """Of the avatar's frames when the first clip was made; 0 before. Pixels."""
    height: int = 0
    size: int = 0
    frames: int = 0
    samples: int = 0
    fragments: int = 0
    clips: tuple[ClipRecord, ...] = ()
    lost: tuple[LostRecord, ...] = ()
    following: int | None = None
    """Source index that goes on from the last clip's last picture; None: `frames`, nothing was left out."""

    @property
    def next_index(self) -> int:
        """Source index that the next clip goes on with."""
        return self.frames if self.following is None else self.following

    @property
    def folder(self) -> str:
        """Name within the session's folder."""
        return f"{self.number:04d}"

    def with_lost(self, lost: LostRecord) -> ConversationRecord:
        return replace(self, lost=(*self.lost, lost)[-MOST_LOST:])


@dataclass(frozen=True, slots=True)
class SessionRecord:
    session_id: str
    avatar_id: str
    fps: str
    """A fraction as text ("25", "30000/1001")."""
    created: str
    conversation: ConversationRecord
    archived: tuple[ConversationRecord, ...] = ()
    """Closed and kept, the oldest first."""
    saying: InProgress | None = None
    schema: int = field(default=SCHEMA, kw_only=True)

    @property
    def clock(self) -> FrameClock:
        return FrameClock(Fraction(self.fps))


def to_json(record: SessionRecord) -> dict[str, Any]:
    return asdict(record)


def from_json(raw: Mapping[str, Any]) -> SessionRecord:
    """Raises ValueError, KeyError or TypeError when it is not a record of this schema."""
    if raw["schema"] != SCHEMA:
        raise ValueError(f"it has schema {raw['schema']}, this version reads {SCHEMA}")
    saying = raw["saying"]
    return _of(
        SessionRecord,
        raw,
        conversation=_conversation(raw["conversation"]),
        archived=tuple(_conversation(one) for one in raw["archived"]),
        saying=None if saying is None else _of(InProgress, saying),
    )


def _conversation(raw: Mapping[str, Any]) -> ConversationRecord:
    return _of(
        ConversationRecord,
        raw,
        clips=tuple(_of(ClipRecord, one) for one in raw["clips"]),
        lost=tuple(_of(LostRecord, one) for one in raw["lost"]),
    )


def _of(kind: type[T], raw: Mapping[str, Any], **parts: Any) -> T:
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in raw.items() if name in names}, **parts})
