"""Conversion of protobuf messages to the response schemas."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from warmtalk.core.errors import NotFound
from warmtalk.services.gateway.event_json import seconds
from warmtalk.services.gateway.schemas import (
    AvatarView,
    ClipView,
    ConversationView,
    JobView,
    LostView,
    SessionView,
)
from warmtalk.store import SessionStore
from warmtalk.v1 import prep_pb2, session_pb2

_JOB_STATUS = {"creating": "processing", "ready": "completed", "failed": "failed"}


class ViewBuilder:
    """Builds the views of sessions, with file sizes and paths from the session volume."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def session(self, session: session_pb2.Session) -> SessionView:
        """Returns the view of a session with its running and archived conversations."""
        return SessionView(
            session_id=session.session_id,
            avatar_id=session.avatar_id,
            state=session_pb2.Session.State.Name(session.state).removeprefix("STATE_").lower(),
            create_time=session.create_time.ToJsonString(),
            conversation=self.conversation(session, session.conversation),
            archived=[self.conversation(session, archived) for archived in session.archived],
        )

    def conversation(self, session: session_pb2.Session, conversation: session_pb2.Conversation) -> ConversationView:
        """Returns the view of one conversation of `session`."""
        fps = session.frame_rate.numerator / (session.frame_rate.denominator or 1)
        clips = [clip_view(session.session_id, conversation.number, clip, fps) for clip in conversation.clips]
        return ConversationView(
            number=conversation.number,
            url=self._video_url(session.session_id, conversation),
            duration_s=seconds(conversation.duration),
            frames=conversation.frames,
            clips=clips,
            lost=[LostView(text=lost.text, reason=lost.reason) for lost in conversation.lost],
        )

    def video_path(self, session_id: str, uri: str) -> Path:
        """Returns the file behind a URI of the session service. Only the last two parts of the URI are used, below
        the gateway's own mount of the session volume.

        Raises NotFound if the file does not exist.
        """
        parts = PurePosixPath(unquote(urlparse(uri).path)).parts[-2:]
        path = self._store.path(session_id).joinpath(*parts)
        if not uri or not path.is_file():
            raise NotFound(f"session {session_id!r} has no such video", "Speak first; each utterance adds a clip")
        return path

    def _video_url(self, session_id: str, conversation: session_pb2.Conversation) -> str:
        try:
            size = self.video_path(session_id, conversation.uri).stat().st_size
        except (NotFound, OSError):
            return ""
        return f"/v1/sessions/{session_id}/conversation.mp4?number={conversation.number}&size={size}"


def clip_view(session_id: str, conversation: int, clip: session_pb2.Clip, fps: float) -> ClipView:
    """Returns the view of a clip of the conversation with that number."""
    return ClipView(
        number=clip.number,
        text=clip.text,
        start_s=round(clip.first_frame / fps, 6),
        duration_s=round(clip.frames / fps, 6),
        frames=clip.frames,
        url=f"/v1/sessions/{session_id}/clips/{clip.number}.mp4?conversation={conversation}",
        create_time=clip.create_time.ToJsonString(),
    )


def avatar_view(avatar: prep_pb2.Avatar) -> AvatarView:
    """Returns the view of an avatar."""
    return AvatarView(
        avatar_id=avatar.avatar_id,
        state=prep_pb2.Avatar.State.Name(avatar.state).removeprefix("STATE_").lower(),
        error=avatar.error,
        source_name=avatar.source_name,
        width=avatar.width,
        height=avatar.height,
        frames=avatar.frames,
        usable_frames=avatar.usable_frames,
        renderers=list(avatar.renderers),
        summary=avatar.summary,
        grade=avatar.grade,
        advice=list(avatar.advice),
    )


def job_view(avatar: prep_pb2.Avatar) -> JobView:
    """Returns the view of the avatar's build."""
    view, progress = avatar_view(avatar), avatar.progress
    done = progress.frames_done / progress.frames_total if progress.frames_total else 0.0
    time_known = avatar.HasField("progress") and progress.seconds_left >= 0
    return JobView(
        job_id=avatar.avatar_id,
        status=_JOB_STATUS[view.state],
        stage=progress.stage,
        progress=1.0 if view.state == "ready" else round(min(1.0, done), 4),
        seconds_left=progress.seconds_left if time_known else None,
        error=avatar.error,
        avatar=view,
    )
