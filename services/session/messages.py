"""The session's nouns as messages."""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from warmtalk.core.errors import InvalidInput
from warmtalk.core.types import CLIP_RATE_HZ
from warmtalk.media.live_encoder import Fragment
from warmtalk.rpc import convert
from warmtalk.services.session import events
from warmtalk.services.session.session_files import SessionFiles
from warmtalk.services.session.session_record import ClipRecord, ConversationRecord
from warmtalk.v1 import session_pb2

_STATES = {False: session_pb2.Session.STATE_IDLE, True: session_pb2.Session.STATE_SPEAKING}


def session(folder: SessionFiles, *, speaking: bool) -> session_pb2.Session:
    record = folder.record
    return session_pb2.Session(
        session_id=record.session_id,
        avatar_id=record.avatar_id,
        state=_STATES[speaking],
        create_time=_timestamp(record.created),
        conversation=conversation(folder, record.conversation),
        archived=[conversation(folder, one) for one in record.archived],
        frame_rate=convert.frame_rate_message(Fraction(record.fps)),
    )


def conversation(folder: SessionFiles, one: ConversationRecord) -> session_pb2.Conversation:
    lost = [
        session_pb2.LostClip(text=each.text, reason=each.reason, start_time=_timestamp(each.started))
        for each in one.lost
    ]
    return session_pb2.Conversation(
        number=one.number,
        uri=_uri(folder, one),
        duration=duration(folder.clock.seconds_at(one.frames)),
        frames=one.frames,
        samples=one.samples,
        clips=[clip(folder, one, each) for each in one.clips],
        lost=lost,
    )


def clip(folder: SessionFiles, one: ConversationRecord, made: ClipRecord) -> session_pb2.Clip:
    return session_pb2.Clip(
        number=made.number,
        uri=folder.clip_path(one, made).absolute().as_uri(),
        text=made.text,
        first_frame=made.first_frame,
        frames=made.frames,
        samples=made.samples,
        create_time=_timestamp(made.created),
    )


def speak_response(folder: SessionFiles, event: events.Event) -> session_pb2.SpeakResponse:
    response = session_pb2.SpeakResponse(conversation_time=duration(event.conversation_s))
    match event.body:
        case events.Accepted(before, sentences):
            response.accepted.CopyFrom(session_pb2.SpeakAccepted(queued_before=before, sentences=sentences))
        case events.Started(delay_s, stream_start_s):
            response.started.CopyFrom(session_pb2.SpeakStarted(delay=duration(delay_s)))
            if stream_start_s is not None:
                response.started.stream_start.CopyFrom(duration(stream_start_s))
        case events.SpeakProgress(done, known):
            response.progress.CopyFrom(session_pb2.SpeakProgress(frames_done=done, frames_known=known))
        case events.ClipReady(one, made):
            response.clip_ready.CopyFrom(session_pb2.ClipReady(clip=clip(folder, one, made)))
        case events.ConversationUpdated(one):
            length = duration(folder.clock.seconds_at(one.frames))
            updated = session_pb2.ConversationUpdated(uri=_uri(folder, one), duration=length, clip_count=len(one.clips))
            response.conversation_updated.CopyFrom(updated)
        case events.Finished(frames, elapsed_s):
            response.finished.CopyFrom(session_pb2.SpeakFinished(frames=frames, elapsed=duration(elapsed_s)))
        case events.Cut(played_s):
            response.interrupted.CopyFrom(session_pb2.SpeakInterrupted(played=duration(played_s)))
        case events.Opened() | events.Media() | events.RateChanged():
            _add_live(response, event.body)
    return response


def _add_live(response: session_pb2.SpeakResponse, body: events.Opened | events.Media | events.RateChanged) -> None:
    match body:
        case events.Opened(mime_type, width, height, fps):
            rate = convert.frame_rate_message(fps)
            opened = session_pb2.StreamOpened(mime_type=mime_type, width=width, height=height, frame_rate=rate)
            response.opened.CopyFrom(opened)
        case events.Media(one, speech):
            response.fragment.CopyFrom(_fragment(one, speech=speech))
        case events.RateChanged(fps):
            rate = convert.frame_rate_message(fps)
            response.frame_rate_changed.CopyFrom(session_pb2.FrameRateChanged(frame_rate=rate))


def _fragment(one: Fragment, *, speech: bool) -> session_pb2.MediaFragment:
    return session_pb2.MediaFragment(
        data=one.data,
        sequence=one.number,
        first_frame=one.first_frame,
        key_frame=one.keyframe,
        start=duration(one.first_sample / CLIP_RATE_HZ),
        duration=duration(one.samples / CLIP_RATE_HZ),
        speech=speech,
    )


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def place(folder: SessionFiles) -> tuple[str, str]:
    """Where a session stands in the list, which goes down."""
    return folder.record.created, folder.record.session_id


def page_token(folder: SessionFiles) -> str:
    return base64.urlsafe_b64encode("|".join(place(folder)).encode()).decode()


def page_place(token: str) -> tuple[str, str]:
    """Raises InvalidInput for a token that is not one of ours."""
    try:
        created, session_id = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("|")
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "page_token is not one of this service", "Send next_page_token", field="page_token"
        ) from error
    return created, session_id


def _uri(folder: SessionFiles, one: ConversationRecord) -> str:
    return folder.video(one).absolute().as_uri() if one.clips else ""


def _timestamp(text: str) -> Timestamp:
    message = Timestamp()
    message.FromJsonString(text)
    return message
