"""Tests of the sliding window over the audio of an utterance."""

from __future__ import annotations

import numpy as np

from warmtalk.core.types import Samples
from warmtalk.services.session.audio_buffer import AudioBuffer


def ramp(start: int, end: int) -> Samples:
    return np.arange(start, end, dtype=np.float32)


def test_positions_count_from_the_start_of_the_utterance() -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 100))
    buffer.discard_before(60)
    buffer.append(ramp(100, 150))
    assert (buffer.start, buffer.end) == (60, 150)
    assert buffer.read(90, 20).tolist() == ramp(90, 110).tolist()
    assert buffer.read(140, 20).tolist() == ramp(140, 150).tolist()
    assert len(buffer.read(150, 20)) == 0


def test_discard_stays_inside_the_buffer() -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 100))
    buffer.discard_before(40)
    buffer.discard_before(10)
    assert buffer.start == 40, "discarded audio does not come back"
    buffer.discard_before(1000)
    assert (buffer.start, buffer.end) == (100, 100)


def test_clear_keeps_the_position() -> None:
    buffer = AudioBuffer()
    buffer.append(ramp(0, 100))
    buffer.clear()
    buffer.append(ramp(100, 110))
    assert buffer.read(100, 100).tolist() == ramp(100, 110).tolist()
