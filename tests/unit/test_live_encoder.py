"""The live encoder: what it writes is read by PyAV, as a browser would read it."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import tone
from warmtalk.core.types import Samples
from warmtalk.media.i420 import I420, to_i420
from warmtalk.media.live_encoder import Fragment, LiveEncoder, LiveSettings

WIDTH, HEIGHT = 64, 48
FRAME = 1920


def picture(light: int) -> I420:
    return to_i420(np.full((HEIGHT, WIDTH, 3), light, np.uint8))


def stream(
    frames: list[tuple[I420, Samples]], settings: LiveSettings | None = None
) -> tuple[LiveEncoder, list[Fragment]]:
    encoder = LiveEncoder(WIDTH, HEIGHT, settings or LiveSettings())
    made = [encoder.head]
    for light, sound in frames:
        if one := encoder.write_frame(light, sound):
            made.append(one)
    encoder.close()
    return encoder, made


def opened(fragments: list[Fragment]) -> av.container.InputContainer:
    return av.open(io.BytesIO(b"".join(one.data for one in fragments)))


def test_fragments_joined_are_a_file() -> None:
    sound = tone(100 * FRAME)
    encoder, made = stream([(picture(40 + k), sound[k * FRAME : (k + 1) * FRAME]) for k in range(100)])
    assert made[0].number == 0
    assert [one.number for one in made] == list(range(len(made)))
    assert {one.frames for one in made[1:]} <= {2, 3}
    assert all(a.first_sample + a.samples == b.first_sample for a, b in itertools.pairwise(made[1:]))
    assert encoder.mime_type.startswith('video/mp4; codecs="avc1.42')
    with opened(made) as file:
        video = list(file.decode(video=0))
    assert [frame.pts * frame.time_base for frame in video] == [pytest.approx(k / 25) for k in range(len(video))]
    assert len(video) == made[-1].first_frame + made[-1].frames
    assert [k for k, frame in enumerate(video) if frame.key_frame] == [0, 24, 48, 72, 96], "within the second"
    for k, frame in enumerate(video):
        assert abs(int(frame.to_ndarray(format="gray").mean()) - (40 + k)) < 10


def test_sound_is_where_it_was() -> None:
    """A click at a known sample is found there again, and a tone goes on without a break over every fragment."""
    sound = tone(100 * FRAME)
    sound[: 50 * FRAME] = 0
    _, made = stream([(picture(90), sound[k * FRAME : (k + 1) * FRAME]) for k in range(100)])
    with opened(made) as file:
        frames = list(file.decode(audio=0))
    assert [frame.pts for frame in frames] == [1024 * k for k in range(len(frames))]
    pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    start = int(np.flatnonzero(np.abs(pcm) > 0.1)[0])
    assert abs(start - 50 * FRAME) < 480, "within 10 ms"
    loud = np.abs(pcm[52 * FRAME : len(pcm) - 1024])
    levels = [loud[k : k + 480].max() for k in range(0, len(loud) - 480, 480)]
    assert min(levels) > 0.9 * max(levels)


@pytest.mark.parametrize("settings", [LiveSettings(fragment_s=0.04), LiveSettings(fragment_s=1.0)])
def test_length_of_fragments(settings: LiveSettings) -> None:
    _, made = stream([(picture(k), tone(FRAME)) for k in range(50)], settings)
    assert {one.frames for one in made[1:]} == {round(25 * settings.fragment_s)}


def test_a_player_can_begin_once_a_second_also_after_short_fragments() -> None:
    encoder = LiveEncoder(WIDTH, HEIGHT, LiveSettings())
    made = [encoder.write_frame(picture(k), tone(FRAME), flush=k in (7, 44, 46, 61)) for k in range(200)]
    encoder.close()
    fragments = [one for one in made if one]
    starts = [one.first_sample for one in fragments if one.keyframe]
    assert starts[0] == 0
    assert max(np.diff(starts)) <= 48_000
    with opened([encoder.head, *fragments]) as file:
        keys = [frame.pts for frame in file.decode(video=0) if frame.key_frame]
    assert keys == starts, "no key picture in the middle of a fragment"


def test_rate_may_change() -> None:
    lengths = [1920] * 10 + [2286, 2285, 2286, 2286] + [2824, 2823]
    _, made = stream([(picture(50), tone(n)) for n in lengths], LiveSettings(fragment_s=0.04))
    with opened(made) as file:
        times = [frame.pts for frame in file.decode(video=0)]
    assert times == [sum(lengths[:k]) for k in range(len(lengths))]


def test_flush_ends_a_fragment() -> None:
    encoder = LiveEncoder(WIDTH, HEIGHT, LiveSettings(fragment_s=1.0))
    assert encoder.write_frame(picture(1), tone(FRAME)) is None
    made = encoder.write_frame(picture(2), tone(FRAME), flush=True)
    assert made is not None
    assert made.frames == 2
    with pytest.raises(ValueError, match="I420"):
        encoder.write_frame(picture(1)[:-1], tone(FRAME))
    encoder.close()


def test_a_closed_stream_holds_nothing() -> None:
    """Whoever still refers to it: clients that vanish leave their streams to be collected much later."""

    def held_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    noise = np.random.default_rng(0).integers(0, 256, (1080, 1280), np.uint8)
    closed: list[LiveEncoder] = []
    before = held_mb()
    for _ in range(20):
        encoder = LiveEncoder(1280, 720, LiveSettings())
        for _ in range(3):
            encoder.write_frame(noise, tone(FRAME))
        encoder.close()
        encoder.close()
        closed.append(encoder)
    assert held_mb() - before < 120, "each holds 15 MiB while it is open"
