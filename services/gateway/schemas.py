"""What the routes answer: JSON with times in seconds and URLs of this server."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel, Field

from warmtalk.core.errors import NotFound, WarmtalkError
from warmtalk.services.gateway.problems import problem
from warmtalk.store import SessionStore
from warmtalk.v1 import media_pb2, prep_pb2, session_pb2


class ClipView(BaseModel):
    """One utterance on video."""

    number: int
    text: str = Field(description="What was said; empty when sound was given.")
    start_s: float = Field(description="Where it begins within the conversation.")
    duration_s: float
    frames: int
    url: str
    create_time: str


class LostView(BaseModel):
    """An utterance that is not in the conversation."""

    text: str
    reason: str


class ConversationView(BaseModel):
    """Clips joined to one video."""

    number: int
    url: str = Field(description="The video as it is now, also when it grows; empty while there is none.")
    duration_s: float
    frames: int
    clips: list[ClipView]
    lost: list[LostView]


class SessionView(BaseModel):
    """A session and its conversations."""

    session_id: str
    avatar_id: str
    state: str = Field(description="idle or speaking")
    create_time: str
    conversation: ConversationView
    archived: list[ConversationView]


class SessionList(BaseModel):
    sessions: list[SessionView]


class SpokenView(BaseModel):
    """A clip that was made, and the conversation that it is in."""

    session_id: str
    clip: ClipView
    conversation: ConversationView
    first_frame_s: float
    elapsed_s: float


class ResetView(BaseModel):
    session: SessionView
    closed: ConversationView | None


class AvatarView(BaseModel):
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
    grade: str = Field(description="good, fair or poor: how well the footage suits; empty while unknown")
    advice: list[str] = Field(description="What to do about the footage.")


class AvatarList(BaseModel):
    avatars: list[AvatarView]


class JobView(BaseModel):
    """A build under way; its id is the avatar's."""

    job_id: str
    status: str = Field(description="processing, completed or failed")
    stage: str
    progress: float = Field(description="0 to 1; 0 while unknown")
    seconds_left: float | None
    error: str
    avatar: AvatarView


class Views:
    """Messages to views. Knows where the sessions' files lie."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def session(self, one: session_pb2.Session) -> SessionView:
        return SessionView(
            session_id=one.session_id,
            avatar_id=one.avatar_id,
            state=session_pb2.Session.State.Name(one.state).removeprefix("STATE_").lower(),
            create_time=one.create_time.ToJsonString(),
            conversation=self.conversation(one, one.conversation),
            archived=[self.conversation(one, each) for each in one.archived],
        )

    def conversation(self, session: session_pb2.Session, one: session_pb2.Conversation) -> ConversationView:
        fps = session.frame_rate.numerator / (session.frame_rate.denominator or 1)
        clips = [clip_view(session.session_id, one.number, each, fps) for each in one.clips]
        return ConversationView(
            number=one.number,
            url=self._video_url(session.session_id, one),
            duration_s=seconds(one.duration),
            frames=one.frames,
            clips=clips,
            lost=[LostView(text=each.text, reason=each.reason) for each in one.lost],
        )

    def file(self, session_id: str, uri: str) -> Path:
        """The file behind a URI of the session service; only its last two parts are used, below our own volume.

        Raises NotFound when there is none.
        """
        parts = PurePosixPath(unquote(urlparse(uri).path)).parts[-2:]
        path = self._store.path(session_id).joinpath(*parts)
        if not uri or not path.is_file():
            raise NotFound(f"session {session_id!r} has no such video", "Say something first")
        return path

    def _video_url(self, session_id: str, one: session_pb2.Conversation) -> str:
        try:
            size = self.file(session_id, one.uri).stat().st_size
        except (NotFound, OSError):
            return ""
        return f"/v1/sessions/{session_id}/conversation.mp4?number={one.number}&size={size}"


def clip_view(session_id: str, conversation: int, one: session_pb2.Clip, fps: float) -> ClipView:
    return ClipView(
        number=one.number,
        text=one.text,
        start_s=round(one.first_frame / fps, 6),
        duration_s=round(one.frames / fps, 6),
        frames=one.frames,
        url=f"/v1/sessions/{session_id}/clips/{one.number}.mp4?conversation={conversation}",
        create_time=one.create_time.ToJsonString(),
    )


def avatar_view(one: prep_pb2.Avatar) -> AvatarView:
    return AvatarView(
        avatar_id=one.avatar_id,
        state=prep_pb2.Avatar.State.Name(one.state).removeprefix("STATE_").lower(),
        error=one.error,
        source_name=one.source_name,
        width=one.width,
        height=one.height,
        frames=one.frames,
        usable_frames=one.usable_frames,
        renderers=list(one.renderers),
        summary=one.summary,
        grade=one.grade,
        advice=list(one.advice),
    )


_JOB_STATUS = {"creating": "processing", "ready": "completed", "failed": "failed"}


def job_view(one: prep_pb2.Avatar) -> JobView:
    avatar, progress = avatar_view(one), one.progress
    done = progress.frames_done / progress.frames_total if progress.frames_total else 0.0
    return JobView(
        job_id=one.avatar_id,
        status=_JOB_STATUS[avatar.state],
        stage=progress.stage,
        progress=1.0 if avatar.state == "ready" else round(min(1.0, done), 4),
        seconds_left=progress.seconds_left if one.HasField("progress") and progress.seconds_left >= 0 else None,
        error=one.error,
        avatar=avatar,
    )


def event_view(session_id: str, one: session_pb2.SpeakResponse) -> dict[str, Any]:
    """A Speak's event as a flat object."""
    kind = one.WhichOneof("event") or ""
    found: dict[str, Any] = {"event": kind, "session_id": session_id, "conversation_s": seconds(one.conversation_time)}
    match kind:
        case "accepted":
            found |= {"queued_before": one.accepted.queued_before, "sentences": one.accepted.sentences}
        case "started":
            found |= {"delay_s": seconds(one.started.delay), "stream_start_s": seconds(one.started.stream_start)}
        case "progress":
            found |= {"frames_done": one.progress.frames_done, "frames_known": one.progress.frames_known}
        case "clip_ready":
            clip = one.clip_ready.clip
            found |= {"clip": clip.number, "frames": clip.frames, "text": clip.text}
        case "conversation_updated":
            updated = one.conversation_updated
            found |= {"duration_s": seconds(updated.duration), "clip_count": updated.clip_count}
        case "interrupted":
            found["played_s"] = seconds(one.interrupted.played)
        case "finished":
            found |= {"frames": one.finished.frames, "elapsed_s": seconds(one.finished.elapsed)}
        case "opened":
            opened = one.opened
            found |= {"mime_type": opened.mime_type, "width": opened.width, "height": opened.height}
            found["fps"] = _fps(opened.frame_rate)
        case "frame_rate_changed":
            found["fps"] = _fps(one.frame_rate_changed.frame_rate)
    return found


def _fps(rate: media_pb2.FrameRate) -> float:
    return round(rate.numerator / (rate.denominator or 1), 3)


def error_event(error: WarmtalkError) -> dict[str, Any]:
    return {"event": "error", **problem(error)}


def seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()
