"""Replay buffer: where viewers of a live stream start and resume."""

from __future__ import annotations

from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer


def filled(count: int, **limits: float) -> ReplayBuffer:
    """Returns a buffer after fragments 1 to `count` of 0.1 s and 10 bytes; every tenth, from the first on, begins with
    a key frame.
    """
    buffer = ReplayBuffer(**limits)  # type: ignore[arg-type]
    for number in range(count):
        buffer.append(BufferedFragment(number + 1, number / 10, 0.1, number % 10 == 0, b"x" * 10))
    return buffer


def test_a_new_viewer_starts_at_the_newest_key_frame() -> None:
    assert filled(0).start_point(None) == (0, 0.0)
    assert filled(0).next_after(0) is None
    assert filled(25).start_point(None) == (20, 2.0)


def test_a_viewer_with_a_position_shows_video_from_exactly_there() -> None:
    assert filled(25).start_point(1.3) == (10, 1.3)
    assert filled(25).start_point(0.9999) == (0, 0.9999)
    assert filled(25).start_point(1.0) == (10, 1.0)
    assert filled(25).start_point(99.0) == (20, 2.5), "not beyond the newest fragment"
    assert filled(300, max_s=5.0).start_point(0.0) == (250, 25.0), "not before the oldest key frame"


def test_a_returning_viewer_resumes_without_gap_or_repeat() -> None:
    buffer = filled(25)
    assert buffer.can_resume_after(12)
    following = buffer.next_after(12)
    assert following
    assert following.sequence == 13
    assert buffer.can_resume_after(25)
    assert buffer.next_after(25) is None
    assert buffer.can_resume_after(0)
    assert not buffer.can_resume_after(26)
    assert not filled(300, max_s=5.0).can_resume_after(10)
    assert not filled(0).can_resume_after(0)


def test_the_buffer_is_bounded_and_a_late_viewer_resumes_at_a_key_frame() -> None:
    buffer = filled(300, max_bytes=200)
    late = buffer.next_after(3)
    assert late
    assert late.key_frame
    assert late.sequence == 281
    assert buffer.last_sequence == 300
