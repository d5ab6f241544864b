"""Events of Speak and Converse as JSON objects, for event streams and WebSockets."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from warmtalk.core.errors import WarmtalkError
from warmtalk.services.gateway.problems import problem_body
from warmtalk.v1 import media_pb2, session_pb2


def event_object(session_id: str, response: session_pb2.SpeakResponse) -> dict[str, Any]:
    """Returns the event as a flat object: `event`, `session_id`, `conversation_s` and the fields of the kind."""
    kind = response.WhichOneof("event") or ""
    event: dict[str, Any] = {
        "event": kind,
        "session_id": session_id,
        "conversation_s": seconds(response.conversation_time),
    }
    match kind:
        case "accepted":
            accepted = response.accepted
            event |= {"queued_before": accepted.queued_before, "sentences": accepted.sentences}
        case "started":
            started = response.started
            event |= {"delay_s": seconds(started.delay), "stream_start_s": seconds(started.stream_start)}
        case "progress":
            event |= {"frames_done": response.progress.frames_done, "frames_known": response.progress.frames_known}
        case "clip_ready":
            clip = response.clip_ready.clip
            event |= {"clip": clip.number, "frames": clip.frames, "text": clip.text}
        case "conversation_updated":
            updated = response.conversation_updated
            event |= {"duration_s": seconds(updated.duration), "clip_count": updated.clip_count}
        case "interrupted":
            event["played_s"] = seconds(response.interrupted.played)
        case "finished":
            event |= {"frames": response.finished.frames, "elapsed_s": seconds(response.finished.elapsed)}
        case "opened":
            opened = response.opened
            event |= {"mime_type": opened.mime_type, "width": opened.width, "height": opened.height}
            event["fps"] = _fps(opened.frame_rate)
        case "frame_rate_changed":
            event["fps"] = _fps(response.frame_rate_changed.frame_rate)
    return event


def error_event(error: WarmtalkError) -> dict[str, Any]:
    """Returns the `error` event with the fields of the problem document."""
    return {"event": "error", **problem_body(error)}


def seconds(duration: Duration) -> float:
    """Returns a protobuf duration in seconds."""
    return duration.ToTimedelta().total_seconds()


def _fps(rate: media_pb2.FrameRate) -> float:
    return round(rate.numerator / (rate.denominator or 1), 3)
