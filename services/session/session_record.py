"""Schema of session.json, the record of truth of one session: plain data and its JSON, no files and no clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, TypeVar

from warmtalk.core.types import FrameClock

SCHEMA = 1
MAX_LOST = 100
"""Maximum number of lost utterances kept per conversation; the oldest are dropped."""
_JSON_KEYS = {"in_progress": "saying"}
"""Fields whose key in session.json differs from the name in Python."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip of a conversation. Times are RFC 3339, UTC."""

    number: int
    """Number of the clip within the conversation, from 1."""
    file: str
    """File name within the folder of the conversation."""
    text: str
    """Spoken text; empty when the client sent audio."""
    first_frame: int
    frames: int
    samples: int
    """Number of audio samples at 48 kHz."""
    created: str


@dataclass(frozen=True, slots=True)
class LostRecord:
    """An utterance that was started and produced no clip."""

    text: str
    reason: str
    started: str


@dataclass(frozen=True, slots=True)
class InProgress:
    """The utterance in progress. An entry that is still present at start-up was lost in a crash."""

    text: str
    started: str


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation. The first `size` bytes of the video are valid; bytes after `size` are a torn append."""

    number: int
    preset: str
    """x264 preset, fixed for the conversation: clips that are joined by copy need one encoder."""
    crf: int
    width: int = 0
    """Frame width of the avatar at the first clip, in pixels; 0 before the first clip."""
    height: int = 0
    size: int = 0
    frames: int = 0
    samples: int = 0
    fragments: int = 0
    clips: tuple[ClipRecord, ...] = ()
    lost: tuple[LostRecord, ...] = ()
    following: int | None = None
    """Source index after the last frame of the last clip; None means `frames`, no idle time was left out."""

    @property
    def next_index(self) -> int:
        """Source index at which the next clip starts."""
        return self.frames if self.following is None else self.following

    @property
    def folder(self) -> str:
        """Folder name within the folder of the session."""
        return f"{self.number:04d}"

    def with_lost(self, lost: LostRecord) -> ConversationRecord:
        """Returns a copy with `lost` appended and at most MAX_LOST entries."""
        return replace(self, lost=(*self.lost, lost)[-MAX_LOST:])


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session: avatar, frame rate, the running conversation and the archived ones."""

    session_id: str
    avatar_id: str
    fps: str
    """Frame rate as the text of a fraction ("25", "30000/1001")."""
    created: str
    conversation: ConversationRecord
    archived: tuple[ConversationRecord, ...] = ()
    """Conversations that were closed and kept, the oldest first."""
    in_progress: InProgress | None = None
    schema: int = field(default=SCHEMA, kw_only=True)

    @property
    def clock(self) -> FrameClock:
        """Frame clock at the rate of the session."""
        return FrameClock(Fraction(self.fps))


def to_json(record: SessionRecord) -> dict[str, Any]:
    """Returns the record as plain data with the keys of session.json."""
    return {_JSON_KEYS.get(name, name): value for name, value in asdict(record).items()}


def from_json(raw: Mapping[str, Any]) -> SessionRecord:
    """Returns the record of `raw`. Raises ValueError, KeyError or TypeError when `raw` does not have this schema."""
    if raw["schema"] != SCHEMA:
        raise ValueError(f"the schema is {raw['schema']}; this version reads schema {SCHEMA}")
    in_progress = raw[_JSON_KEYS["in_progress"]]
    return _build(
        SessionRecord,
        raw,
        conversation=_conversation(raw["conversation"]),
        archived=tuple(_conversation(one) for one in raw["archived"]),
        in_progress=None if in_progress is None else _build(InProgress, in_progress),
    )


def _conversation(raw: Mapping[str, Any]) -> ConversationRecord:
    return _build(
        ConversationRecord,
        raw,
        clips=tuple(_build(ClipRecord, one) for one in raw["clips"]),
        lost=tuple(_build(LostRecord, one) for one in raw["lost"]),
    )


def _build(record_type: type[T], raw: Mapping[str, Any], **nested: Any) -> T:
    """Returns a record of the known keys of `raw`; `nested` replaces fields that are records themselves."""
    names = {one.name for one in fields(record_type)}  # type: ignore[arg-type]
    return record_type(**{**{name: value for name, value in raw.items() if name in names}, **nested})
