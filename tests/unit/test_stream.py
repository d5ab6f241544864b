"""Utterance: no frame lost, doubled or sent without credit, whatever the order of events."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.core.stream import Utterance
from warmtalk.core.types import Features, Samples


class CountingStream:
    """Gives one feature row per 640 samples: its own number."""

    def __init__(self) -> None:
        self._samples = 0
        self._given = 0

    def _rows(self, total: int) -> Features:
        rows = np.arange(self._given, total, dtype=np.float32)[:, None]
        self._given = total
        return rows

    def accept(self, samples: Samples) -> Features:
        self._samples += len(samples)
        return self._rows(self._samples // 640)

    def finish(self) -> Features:
        return self._rows(-(-self._samples // 640))


events = st.lists(
    st.one_of(
        st.tuples(st.just("sound"), st.integers(0, 3000)),
        st.tuples(st.just("credit"), st.integers(1, 9)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=60,
)


def turn(utterance: Utterance, out: list[float]) -> None:
    pieces, last = utterance.take_sound()
    utterance.put(utterance.hear(pieces, last), last)
    credit = utterance.credit
    batch = utterance.take_frames()
    if batch:
        first, features = batch
        assert first == len(out)
        assert len(features) <= min(utterance.batch_frames, credit)
        out += features[:, 0].tolist()


@given(events, st.integers(1, 8), st.integers(1, 40))
def test_every_frame_comes_once_and_in_order(steps: list[tuple[str, int]], batch: int, credit: int) -> None:
    utterance = Utterance(CountingStream(), 0, batch, credit)
    out: list[float] = []
    samples = 0
    for kind, amount in steps:
        if kind == "sound":
            utterance.push(np.zeros(amount, np.float32))
            samples += amount
        elif kind == "credit":
            utterance.credit += amount
        elif utterance.runnable:
            turn(utterance, out)
    utterance.ended = True
    utterance.credit += 10_000
    while not utterance.done:
        assert utterance.runnable
        turn(utterance, out)
    assert out == list(range(-(-samples // 640)))


def test_nothing_is_drawn_without_credit() -> None:
    utterance = Utterance(CountingStream(), 0, 4, 3)
    utterance.push(np.zeros(64_000, np.float32))
    out: list[float] = []
    for _ in range(5):
        if utterance.runnable:
            turn(utterance, out)
    assert out == [0, 1, 2]
    assert not utterance.runnable


def test_the_first_batch_is_one_frame() -> None:
    utterance = Utterance(CountingStream(), 0, 4, 100)
    utterance.push(np.zeros(6400, np.float32))
    sizes = []
    pieces, last = utterance.take_sound()
    utterance.put(utterance.hear(pieces, last), last)
    while batch := utterance.take_frames():
        sizes.append(len(batch[1]))
    assert sizes == [1, 4, 4, 1]


def test_an_aborted_utterance_is_done() -> None:
    utterance = Utterance(CountingStream(), 0, 4, 100)
    utterance.push(np.zeros(6400, np.float32))
    utterance.aborted = True
    assert utterance.done
    assert utterance.take_frames() is None
