"""Scheduler: no frame lost, doubled or out of order; no starvation; immediate abort; credit is respected."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.core.scheduler import Scheduler, Share, streams_at

FPS = Fraction(25)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("frames"), st.integers(0, 5), st.integers(1, 12)),
        st.tuples(st.just("grant"), st.integers(0, 5), st.integers(1, 12)),
        st.tuples(st.just("close"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(steps, st.integers(1, 20), st.integers(1, 8))
def test_every_frame_is_taken_once_in_order_within_credit(
    events: list[tuple[str, int, int]], max_batch: int, max_share: int
) -> None:
    scheduler = Scheduler(max_batch=max_batch)
    offered, credit, taken = [0] * 6, [4] * 6, [0] * 6
    closed: set[int] = set()
    for key in range(6):
        scheduler.open(key, FPS, 4, max_share)

    def take() -> int:
        shares = scheduler.next_batch()
        assert len({share.key for share in shares}) == len(shares)
        for share in shares:
            key = share.key
            assert isinstance(key, int)
            assert key not in closed
            assert share.first == taken[key]
            assert 1 <= share.count <= (max_share if share.first else 1)
            taken[key] += share.count
            assert taken[key] <= min(offered[key], credit[key])
        total = sum(share.count for share in shares)
        assert total <= max_batch
        return total

    for now, (kind, key, amount) in enumerate(events):
        if kind == "take":
            take()
        elif kind == "close":
            scheduler.close(key)
            closed.add(key)
        elif key not in closed:
            (scheduler.add_frames if kind == "frames" else scheduler.add_credit)(key, amount, float(now))
            (offered if kind == "frames" else credit)[key] += amount
    while take():
        pass
    for key in set(range(6)) - closed:
        assert taken[key] == min(offered[key], credit[key])


@given(st.integers(2, 12), st.integers(1, 8), st.integers(1, 30))
def test_no_stream_starves(streams: int, max_batch: int, greed: int) -> None:
    """A stream with one frame waits for at most one frame of each other stream, regardless of their backlog."""
    scheduler = Scheduler(max_batch=max_batch)
    for key in range(streams):
        scheduler.open(key, FPS, 10_000)
        scheduler.add_frames(key, greed * 10, 0.0)
    served: dict[object, int] = {}
    batches = 0
    while len(served) < streams:
        batches += 1
        for share in scheduler.next_batch():
            served[share.key] = served.get(share.key, 0) + share.count
    assert batches <= -(-streams // max_batch)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8))
def test_over_time_all_streams_get_equal_shares(weights: list[int]) -> None:
    """After n batches, any two streams with waiting frames differ by at most one share, regardless of their backlog."""
    scheduler = Scheduler(max_batch=4)
    for key, weight in enumerate(weights):
        scheduler.open(key, FPS, 100_000, 4)
        scheduler.add_frames(key, weight * 100, 0.0)
    served = [0] * len(weights)
    for _ in range(15 * len(weights)):
        for share in scheduler.next_batch():
            assert isinstance(share.key, int)
            served[share.key] += share.count
    assert max(served) - min(served) <= 4


def test_every_stream_has_its_most_urgent_window_in_the_batch() -> None:
    scheduler = Scheduler(max_batch=4)
    for key in "abcd":
        scheduler.open(key, FPS, 32)
        scheduler.add_frames(key, 10, 0.0)
    assert scheduler.next_batch() == [Share(key, 0, 1) for key in "abcd"]
    assert scheduler.next_batch() == [Share(key, 1, 1) for key in "abcd"]


def test_a_late_stream_is_served_at_once() -> None:
    scheduler = Scheduler(max_batch=2)
    scheduler.open("old", FPS, 1000)
    scheduler.add_frames("old", 500, 0.0)
    for _ in range(50):
        scheduler.next_batch()  # rendered far ahead of the deadline
    scheduler.open("new", FPS, 32)
    scheduler.add_frames("new", 2, 0.5)
    assert scheduler.next_batch()[0] == Share("new", 0, 1)


def test_a_pause_gives_no_claim_on_the_time_of_other_streams() -> None:
    scheduler = Scheduler(max_batch=1)
    for key in ("a", "b"):
        scheduler.open(key, FPS, 1000)
    scheduler.add_frames("a", 1000, 60.0)
    scheduler.add_frames("b", 1, 0.0)
    scheduler.next_batch()
    scheduler.add_frames("b", 1000, 60.0)  # silent for a minute
    order = [scheduler.next_batch()[0].key for _ in range(20)]
    assert order.count("a") == 10


def test_a_stream_without_credit_is_skipped() -> None:
    scheduler = Scheduler(max_batch=8)
    scheduler.open("a", FPS, 0)
    scheduler.add_frames("a", 5, 0.0)
    assert scheduler.next_batch() == []
    assert scheduler.next_due_s() is None
    scheduler.add_credit("a", 3, 7.0)
    assert scheduler.next_due_s() == 7.0
    assert scheduler.next_batch() == [Share("a", 0, 1)]  # the first frame comes alone, for low latency
    assert scheduler.next_batch() == [Share("a", 1, 2)]
    assert scheduler.next_batch() == []


def test_after_the_abort_no_frame_is_rendered() -> None:
    scheduler = Scheduler(max_batch=8)
    scheduler.open("a", FPS, 32)
    scheduler.add_frames("a", 20, 0.0)
    scheduler.next_batch()
    scheduler.close("a")
    scheduler.close("a")
    scheduler.add_frames("a", 3, 1.0)
    assert scheduler.next_batch() == []
    assert "a" not in scheduler
    assert len(scheduler) == 0


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="max_batch is 0"):
        Scheduler(max_batch=0)
    scheduler = Scheduler(max_batch=1)
    scheduler.open(1, FPS, 1)
    with pytest.raises(ValueError, match="open already"):
        scheduler.open(1, FPS, 1)


def test_streams_served_by_a_device() -> None:
    assert streams_at(500, FPS) == 18
    assert streams_at(20, FPS) == 0
