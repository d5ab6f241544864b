"""Conversion of sessions, conversations, clips and events to messages."""

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


def session(files: SessionFiles, *, speaking: bool) -> session_pb2.Session:
    """Returns the message of a session."""
    record = files.record
    return session_pb2.Session(
        session_id=record.session_id,
        avatar_id=record.avatar_id,
        state=_STATES[speaking],
        create_time=_timestamp(record.created),
        conversation=conversation(files, record.conversation),
        archived=[conversation(files, one) for one in record.archived],
        frame_rate=convert.frame_rate_message(Fraction(record.fps)),
    )


def conversation(files: SessionFiles, record: ConversationRecord) -> session_pb2.Conversation:
    """Returns the message of one conversation of the session."""
    lost = [
        session_pb2.LostClip(text=one.text, reason=one.reason, start_time=_timestamp(one.started))
        for one in record.lost
    ]
    return session_pb2.Conversation(
        number=record.number,
        uri=_uri(files, record),
        duration=duration(files.clock.seconds_at(record.frames)),
        frames=record.frames,
        samples=record.samples,
        clips=[clip(files, record, one) for one in record.clips],
        lost=lost,
    )


def clip(files: SessionFiles, conversation: ConversationRecord, record: ClipRecord) -> session_pb2.Clip:
    """Returns the message of one clip."""
    return session_pb2.Clip(
        number=record.number,
        uri=files.clip_path(conversation, record).absolute().as_uri(),
        text=record.text,
        first_frame=record.first_frame,
        frames=record.frames,
        samples=record.samples,
        create_time=_timestamp(record.created),
    )


def speak_response(files: SessionFiles, event: events.Event) -> session_pb2.SpeakResponse:
    """Returns the message of one event of a Speak or a Converse."""
    response = session_pb2.SpeakResponse(conversation_time=duration(event.conversation_s))
    match event.body:
        case events.Accepted(queued_before, sentences):
            response.accepted.CopyFrom(session_pb2.SpeakAccepted(queued_before=queued_before, sentences=sentences))
        case events.Started(delay_s, stream_start_s):
            response.started.CopyFrom(session_pb2.SpeakStarted(delay=duration(delay_s)))
            if stream_start_s is not None:
                response.started.stream_start.CopyFrom(duration(stream_start_s))
        case events.SpeakProgress(done, known):
            response.progress.CopyFrom(session_pb2.SpeakProgress(frames_done=done, frames_known=known))
        case events.ClipReady(record, clip_record):
            response.clip_ready.CopyFrom(session_pb2.ClipReady(clip=clip(files, record, clip_record)))
        case events.ConversationUpdated(record):
            length = duration(files.clock.seconds_at(record.frames))
            updated = session_pb2.ConversationUpdated(
                uri=_uri(files, record), duration=length, clip_count=len(record.clips)
            )
            response.conversation_updated.CopyFrom(updated)
        case events.Finished(frames, elapsed_s):
            response.finished.CopyFrom(session_pb2.SpeakFinished(frames=frames, elapsed=duration(elapsed_s)))
        case events.SpeechInterrupted(played_s):
            response.interrupted.CopyFrom(session_pb2.SpeakInterrupted(played=duration(played_s)))
        case events.Opened() | events.Media() | events.RateChanged():
            _set_live_event(response, event.body)
    return response


def _set_live_event(
    response: session_pb2.SpeakResponse, body: events.Opened | events.Media | events.RateChanged
) -> None:
    match body:
        case events.Opened(mime_type, width, height, fps):
            rate = convert.frame_rate_message(fps)
            opened = session_pb2.StreamOpened(mime_type=mime_type, width=width, height=height, frame_rate=rate)
            response.opened.CopyFrom(opened)
        case events.Media(fragment, speech):
            response.fragment.CopyFrom(_fragment(fragment, speech=speech))
        case events.RateChanged(fps):
            rate = convert.frame_rate_message(fps)
            response.frame_rate_changed.CopyFrom(session_pb2.FrameRateChanged(frame_rate=rate))


def _fragment(fragment: Fragment, *, speech: bool) -> session_pb2.MediaFragment:
    return session_pb2.MediaFragment(
        data=fragment.data,
        sequence=fragment.number,
        first_frame=fragment.first_frame,
        key_frame=fragment.keyframe,
        start=duration(fragment.first_sample / CLIP_RATE_HZ),
        duration=duration(fragment.samples / CLIP_RATE_HZ),
        speech=speech,
    )


def duration(seconds: float) -> Duration:
    """Returns the message of a duration, to the microsecond."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def sort_key(files: SessionFiles) -> tuple[str, str]:
    """Returns the key of a session in the list, which is sorted in descending order."""
    return files.record.created, files.record.session_id


def page_token(files: SessionFiles) -> str:
    """Returns the token of the page after this session."""
    return base64.urlsafe_b64encode("|".join(sort_key(files)).encode()).decode()


def parse_page_token(token: str) -> tuple[str, str]:
    """Returns the sort key inside a page token. Raises InvalidInput for a token of another origin."""
    try:
        created, session_id = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("|")
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "page_token is not one of this service", "Send next_page_token", field="page_token"
        ) from error
    return created, session_id


def _uri(files: SessionFiles, conversation: ConversationRecord) -> str:
    return files.video_path(conversation).absolute().as_uri() if conversation.clips else ""


def _timestamp(text: str) -> Timestamp:
    message = Timestamp()
    message.FromJsonString(text)
    return message
