"""Where players of a live stream begin and go on."""

from __future__ import annotations

from warmtalk.services.gateway.live.replay_buffer import BufferedFragment, ReplayBuffer


def ring(count: int, **limits: float) -> ReplayBuffer:
    """Pieces 1 to `count` of 0.1 s and 10 bytes; each tenth, from the first on, is a key picture."""
    one = ReplayBuffer(**limits)  # type: ignore[arg-type]
    for number in range(count):
        one.add(BufferedFragment(number + 1, number / 10, 0.1, number % 10 == 0, b"x" * 10))
    return one


def test_a_new_player_begins_at_the_newest_key_picture() -> None:
    assert ring(0).begin(None) == (0, 0.0)
    assert ring(0).after(0) is None
    assert ring(25).begin(None) == (20, 2.0)


def test_a_player_with_a_position_begins_to_show_exactly_there() -> None:
    assert ring(25).begin(1.3) == (10, 1.3)
    assert ring(25).begin(0.9999) == (0, 0.9999)
    assert ring(25).begin(1.0) == (10, 1.0)
    assert ring(25).begin(99.0) == (20, 2.5), "no further than there is"
    assert ring(300, most_s=5.0).begin(0.0) == (250, 25.0), "what is gone is gone"


def test_a_player_that_comes_back_goes_on_without_gap_or_repeat() -> None:
    one = ring(25)
    assert one.follows(12)
    following = one.after(12)
    assert following
    assert following.sequence == 13
    assert one.follows(25)
    assert one.after(25) is None
    assert one.follows(0)
    assert not one.follows(26)
    assert not ring(300, most_s=5.0).follows(10)
    assert not ring(0).follows(0)


def test_it_is_bounded_and_a_late_player_goes_on_at_a_key_picture() -> None:
    one = ring(300, most_bytes=200)
    late = one.after(3)
    assert late
    assert late.key
    assert late.sequence == 281
    assert one.last == 300
