"""Request and response bodies of the REST API. Times are in seconds, URLs are relative to this server.

The `title` of a model is its component name in /openapi.json and part of the public API.
"""

from __future__ import annotations

from pydantic import BaseModel, Field


class NewSession(BaseModel):
    """Body of POST /v1/sessions."""

    session_id: str = Field("", description="Default: made by the server.")
    avatar_id: str = Field("", description="Default: the configured avatar, or the only one that is ready.")


class ResetBody(BaseModel):
    """Body of a reset."""

    delete: bool = Field(False, description="Delete the conversation that ends instead of keeping it.")


class InterruptBody(BaseModel):
    """Body of an interrupt."""

    played_s: float | None = Field(None, ge=0, description="Seconds that were really played; the clip is cut there.")


class TokenBody(BaseModel):
    """Body of POST /v1/token."""

    session_id: str = Field("", description="Session that the token opens. Default: a new id.")


class LegacySpeakBody(BaseModel, title="OldSpeak"):
    """Body of POST /speak."""

    text: str


class ClipView(BaseModel, title="Clip"):
    """Video of one utterance."""

    number: int
    text: str = Field(description="Spoken text; empty when the input was audio.")
    start_s: float = Field(description="Start within the conversation.")
    duration_s: float
    frames: int
    url: str
    create_time: str


class LostView(BaseModel, title="Lost"):
    """An utterance missing from the conversation."""

    text: str
    reason: str


class ConversationView(BaseModel, title="Conversation"):
    """Clips joined to one video."""

    number: int
    url: str = Field(description="The video at its present length, stable while the file grows; empty without a video.")
    duration_s: float
    frames: int
    clips: list[ClipView]
    lost: list[LostView]


class SessionView(BaseModel, title="Session"):
    """A session and its conversations."""

    session_id: str
    avatar_id: str
    state: str = Field(description="idle or speaking")
    create_time: str
    conversation: ConversationView
    archived: list[ConversationView]


class SessionList(BaseModel):
    """All sessions, newest first."""

    sessions: list[SessionView]


class SpokenView(BaseModel, title="Spoken"):
    """The new clip and the whole conversation."""

    session_id: str
    clip: ClipView
    conversation: ConversationView
    first_frame_s: float
    elapsed_s: float


class ResetView(BaseModel, title="Reset"):
    """The session after a reset and the closed conversation; null if that conversation was empty or deleted."""

    session: SessionView
    closed: ConversationView | None


class InterruptView(BaseModel, title="Interrupted"):
    """Result of an interrupt."""

    played_s: float | None = Field(description="Seconds of the utterance that are kept; null if nothing was spoken.")


class PageToken(BaseModel):
    """Token of a page, for the link `/?session=ID#token=TOKEN`."""

    session_id: str
    token: str
    expires_in: float = Field(description="Seconds. POST /v1/token with the token itself renews the token.")


class AvatarView(BaseModel, title="Avatar"):
    """An avatar and its build."""

    avatar_id: str
    state: str = Field(description="creating, ready or failed")
    error: str
    source_name: str
    width: int
    height: int
    frames: int
    usable_frames: int
    renderers: list[str]
    summary: str
    grade: str = Field(description="Suitability of the footage: good, fair or poor; empty while unknown.")
    advice: list[str] = Field(description="Suggestions for better footage.")


class AvatarList(BaseModel):
    """All avatars by id."""

    avatars: list[AvatarView]


class JobView(BaseModel, title="Job"):
    """An avatar build; the job id is the avatar id."""

    job_id: str
    status: str = Field(description="processing, completed or failed")
    stage: str
    progress: float = Field(description="0 to 1; 0 while unknown.")
    seconds_left: float | None
    error: str
    avatar: AvatarView


class Transcript(BaseModel, title="Heard"):
    """Text of a transcribed recording."""

    text: str
