"""The live encoder: PyAV reads the fragments as a browser does."""

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
FRAME_SAMPLES = 1920


def grey_frame(level: int) -> I420:
    return to_i420(np.full((HEIGHT, WIDTH, 3), level, np.uint8))


def encode(
    frames: list[tuple[I420, Samples]], settings: LiveSettings | None = None
) -> tuple[LiveEncoder, list[Fragment]]:
    encoder = LiveEncoder(WIDTH, HEIGHT, settings or LiveSettings())
    fragments = [encoder.head]
    for frame, audio in frames:
        if fragment := encoder.write_frame(frame, audio):
            fragments.append(fragment)
    encoder.close()
    return encoder, fragments


def open_fragments(fragments: list[Fragment]) -> av.container.InputContainer:
    return av.open(io.BytesIO(b"".join(one.data for one in fragments)))


def test_joined_fragments_are_a_file() -> None:
    audio = tone(100 * FRAME_SAMPLES)
    blocks = np.split(audio, 100)
    encoder, fragments = encode([(grey_frame(40 + k), block) for k, block in enumerate(blocks)])
    assert fragments[0].number == 0
    assert [fragment.number for fragment in fragments] == list(range(len(fragments)))
    assert {fragment.frames for fragment in fragments[1:]} <= {2, 3}
    assert all(a.first_sample + a.samples == b.first_sample for a, b in itertools.pairwise(fragments[1:]))
    assert encoder.mime_type.startswith('video/mp4; codecs="avc1.42')
    with open_fragments(fragments) as file:
        video = list(file.decode(video=0))
    assert [frame.pts * frame.time_base for frame in video] == [pytest.approx(k / 25) for k in range(len(video))]
    assert len(video) == fragments[-1].first_frame + fragments[-1].frames
    assert [k for k, frame in enumerate(video) if frame.key_frame] == [0, 24, 48, 72, 96], "less than a second apart"
    for k, frame in enumerate(video):
        assert abs(int(frame.to_ndarray(format="gray").mean()) - (40 + k)) < 10


def test_audio_keeps_its_position() -> None:
    """The onset of a tone stays at its sample, and the tone has no gap at any fragment."""
    audio = tone(100 * FRAME_SAMPLES)
    audio[: 50 * FRAME_SAMPLES] = 0
    _, fragments = encode([(grey_frame(90), audio[k * FRAME_SAMPLES : (k + 1) * FRAME_SAMPLES]) for k in range(100)])
    with open_fragments(fragments) as file:
        frames = list(file.decode(audio=0))
    assert [frame.pts for frame in frames] == [1024 * k for k in range(len(frames))]
    pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    start = int(np.flatnonzero(np.abs(pcm) > 0.1)[0])
    assert abs(start - 50 * FRAME_SAMPLES) < 480, "within 10 ms"
    magnitude = np.abs(pcm[52 * FRAME_SAMPLES : len(pcm) - 1024])
    levels = [magnitude[k : k + 480].max() for k in range(0, len(magnitude) - 480, 480)]
    assert min(levels) > 0.9 * max(levels)


@pytest.mark.parametrize("settings", [LiveSettings(fragment_s=0.04), LiveSettings(fragment_s=1.0)])
def test_length_of_fragments(settings: LiveSettings) -> None:
    _, fragments = encode([(grey_frame(k), tone(FRAME_SAMPLES)) for k in range(50)], settings)
    assert {fragment.frames for fragment in fragments[1:]} == {round(25 * settings.fragment_s)}


def test_playback_can_start_once_a_second_also_after_short_fragments() -> None:
    encoder = LiveEncoder(WIDTH, HEIGHT, LiveSettings())
    written = [encoder.write_frame(grey_frame(k), tone(FRAME_SAMPLES), flush=k in (7, 44, 46, 61)) for k in range(200)]
    encoder.close()
    fragments = [fragment for fragment in written if fragment]
    starts = [fragment.first_sample for fragment in fragments if fragment.keyframe]
    assert starts[0] == 0
    assert max(np.diff(starts)) <= 48_000
    with open_fragments([encoder.head, *fragments]) as file:
        keyframes = [frame.pts for frame in file.decode(video=0) if frame.key_frame]
    assert keyframes == starts, "no key frame in the middle of a fragment"


def test_rate_may_change() -> None:
    lengths = [1920] * 10 + [2286, 2285, 2286, 2286] + [2824, 2823]
    _, fragments = encode([(grey_frame(50), tone(n)) for n in lengths], LiveSettings(fragment_s=0.04))
    with open_fragments(fragments) as file:
        times = [frame.pts for frame in file.decode(video=0)]
    assert times == [sum(lengths[:k]) for k in range(len(lengths))]


def test_flush_ends_a_fragment() -> None:
    encoder = LiveEncoder(WIDTH, HEIGHT, LiveSettings(fragment_s=1.0))
    assert encoder.write_frame(grey_frame(1), tone(FRAME_SAMPLES)) is None
    fragment = encoder.write_frame(grey_frame(2), tone(FRAME_SAMPLES), flush=True)
    assert fragment is not None
    assert fragment.frames == 2
    with pytest.raises(ValueError, match="I420"):
        encoder.write_frame(grey_frame(1)[:-1], tone(FRAME_SAMPLES))
    encoder.close()


def test_a_closed_encoder_frees_its_memory() -> None:
    """References may remain: streams of vanished clients wait for the garbage collector."""

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    noise = np.random.default_rng(0).integers(0, 256, (1080, 1280), np.uint8)
    closed: list[LiveEncoder] = []
    before = resident_mb()
    for _ in range(20):
        encoder = LiveEncoder(1280, 720, LiveSettings())
        for _ in range(3):
            encoder.write_frame(noise, tone(FRAME_SAMPLES))
        encoder.close()
        encoder.close()
        closed.append(encoder)
    assert resident_mb() - before < 120, "an open encoder holds 15 MiB"
