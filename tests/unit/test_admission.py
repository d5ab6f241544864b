"""Admission control of the infer engine: places, measured speed, reported capacity."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import pytest

from warmtalk.core.errors import Busy
from warmtalk.core.pipeline import RenderModel
from warmtalk.services.infer.admission import Admission, ThroughputMeter

FPS = Fraction(25)


class MeasuredRenderer:
    """The part of a BatchRenderer that admission reads."""

    max_batch = 16

    def __init__(self, faces_per_second: float) -> None:
        self.faces_per_second = faces_per_second

    def submit_batch(self, jobs: Any) -> Any:
        raise AssertionError("admission renders nothing")


def admission(max_streams: int, **faces_per_second: float) -> Admission:
    models = {
        name: RenderModel(cast(Any, None), cast(Any, MeasuredRenderer(rate))) for name, rate in faces_per_second.items()
    }
    return Admission(models, max_streams)


def test_a_stream_that_opens_counts_as_open() -> None:
    limited = admission(2, mesh=0.0)
    with limited.reserve(0), limited.reserve(0), pytest.raises(Busy, match="all 2 streams"), limited.reserve(0):
        pass
    with limited.reserve(1):
        pass
    with pytest.raises(Busy) as caught, limited.reserve(2):
        pass
    assert caught.value.retry_after_s > 0


def test_a_failed_open_frees_the_place() -> None:
    limited = admission(1, mesh=0.0)
    with pytest.raises(KeyError), limited.reserve(0):
        raise KeyError
    with limited.reserve(0):
        pass


def test_the_measured_speed_limits_the_streams_of_a_renderer() -> None:
    limited = admission(8, musetalk=60.0)
    limited.check_speed("musetalk", 1, FPS)
    with pytest.raises(Busy, match="60 faces per second serve the 2 open streams"):
        limited.check_speed("musetalk", 2, FPS)
    admission(8, musetalk=0.4).check_speed("musetalk", 0, FPS)  # slower than real time: the first stream is admitted
    admission(8, mesh=0.0).check_speed("mesh", 7, FPS)  # not measured: no limit


def test_the_capacity_is_that_of_the_fastest_renderer() -> None:
    assert admission(8, musetalk=60.0).capacity == 2
    assert admission(8, slow=60.0, fast=120.0).capacity == 4
    assert admission(8, mesh=0.0, musetalk=60.0).capacity == 8


def test_the_throughput_is_the_median_of_the_latest_batches() -> None:
    meter = ThroughputMeter()
    assert meter.faces_per_second == 0
    for seconds in (0.1, 0.2, 5.0):
        meter.record(seconds, 4)
    assert meter.faces_per_second == pytest.approx(20)
    for _ in range(64):
        meter.record(0.1, 10)
    assert meter.faces_per_second == pytest.approx(100)
