"""UtteranceBuffer: no frame lost, doubled or sent without credit, for any order of events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmtalk.core.audio_queue import UtteranceBuffer
from warmtalk.core.types import Features, Samples


class CountingStream:
    """Returns one feature row per 640 samples: the number of the row."""

    def __init__(self) -> None:
        self._samples = 0
        self._returned = 0

    def _rows(self, total: int) -> Features:
        rows = np.arange(self._returned, total, dtype=np.float32)[:, None]
        self._returned = total
        return rows

    def push_audio(self, samples: Samples) -> Features:
        self._samples += len(samples)
        return self._rows(self._samples // 640)

    def finish(self) -> Features:
        return self._rows(-(-self._samples // 640))


events = st.lists(
    st.one_of(
        st.tuples(st.just("audio"), st.integers(0, 3000)),
        st.tuples(st.just("credit"), st.integers(1, 9)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=60,
)


def turn(utterance: UtteranceBuffer, batch: int, out: list[float]) -> None:
    """Does one turn of the render thread: encodes audio and takes at most `batch` frames."""
    chunks, last = utterance.take_audio()
    utterance.add_features(utterance.encode(chunks, last), last)
    count = min(batch, utterance.credit, utterance.ready_frames)
    if count and not utterance.aborted:
        first, features = utterance.take_frames(count)
        assert first == len(out)
        assert len(features) == count
        out += features[:, 0].tolist()


@given(events, st.integers(1, 8), st.integers(1, 40))
def test_every_frame_is_taken_once_and_in_order(steps: list[tuple[str, int]], batch: int, credit: int) -> None:
    utterance = UtteranceBuffer(CountingStream(), 0, credit)
    out: list[float] = []
    samples = 0
    for kind, amount in steps:
        if kind == "audio":
            utterance.push_audio(np.zeros(amount, np.float32))
            samples += amount
        elif kind == "credit":
            utterance.credit += amount
        else:
            turn(utterance, batch, out)
    utterance.ended = True
    utterance.credit += 10_000
    while not utterance.done:
        assert utterance.needs_encoding or utterance.ready_frames
        turn(utterance, batch, out)
    assert out == list(range(-(-samples // 640)))


def test_frames_beyond_credit_or_audio_cannot_be_taken() -> None:
    utterance = UtteranceBuffer(CountingStream(), 0, 3)
    utterance.push_audio(np.zeros(6400, np.float32))
    utterance.add_features(utterance.encode(*utterance.take_audio()), False)
    assert utterance.ready_frames == 10
    with pytest.raises(AssertionError):
        utterance.take_frames(4)
    utterance.take_frames(3)
    with pytest.raises(AssertionError):
        utterance.take_frames(1)


def test_long_audio_is_encoded_in_slices_and_only_a_limited_time_ahead() -> None:
    utterance = UtteranceBuffer(CountingStream(), 0, 0)
    utterance.push_audio(np.zeros(100, np.float32))
    utterance.push_audio(np.zeros(160_000, np.float32))
    utterance.ended = True
    slices = []
    while utterance.needs_encoding:
        chunks, last = utterance.take_audio()
        slices.append(sum(len(chunk) for chunk in chunks))
        assert not last
        utterance.add_features(utterance.encode(chunks, last), last)
    assert set(slices) == {8000}
    assert 64 <= utterance.ready_frames < 64 + 13
    assert utterance.pending_samples == 160_100 - sum(slices)


def test_an_aborted_utterance_is_done() -> None:
    utterance = UtteranceBuffer(CountingStream(), 0, 100)
    utterance.push_audio(np.zeros(6400, np.float32))
    utterance.aborted = True
    assert utterance.done
    assert utterance.needs_encoding
