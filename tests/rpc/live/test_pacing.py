"""Slow audio, slow players, lost services, and the frame rate that falls and rises again."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.audio import syllables
from tests.rpc.live.client import ConverseClient, pcm, seconds, to_duration
from tests.rpc.session.harness import Code, SessionHarness, read_video, refused
from warmtalk.services.session.live import rate_control
from warmtalk.v1 import session_pb2 as pb


async def test_ten_times_slower_than_real_time(service: SessionHarness) -> None:
    """The mouth closes while audio is missing, and the whole speech is recorded."""
    audio = syllables(0.6)
    async with ConverseClient(service) as client:
        for offset in range(0, len(audio), 1600):
            await client.send(pcm_s16le=pcm(audio[offset : offset + 1600]))
            await asyncio.sleep(1.0)
        await client.send(end=pb.EndOfUtterance())
        await client.wait_for("finished")
    assert len(service.fake.configs) == 6, "a segment for each chunk"
    clip = (await service.conversation()).clips[0]
    pcm_kept = read_video(clip.uri).pcm.astype(int)
    loud = np.abs(pcm_kept) > 300
    assert np.count_nonzero(loud) > 0.5 * np.count_nonzero(np.abs(syllables(0.6, 48_000)) > 0.01)


async def test_player_that_is_paused(service: SessionHarness) -> None:
    """The stream stays at most 10 s ahead of a player that reports a position."""
    async with ConverseClient(service) as client:
        await client.send(playback=pb.PlaybackPosition(position=to_duration(-9.0)))
        await asyncio.sleep(2.0)
        shown = client.events_of("fragment")[-1].fragment
        assert 0.9 < seconds(shown.start) + seconds(shown.duration) <= 1.2
        await client.send(playback=pb.PlaybackPosition(position=to_duration(-8.0)))
        await asyncio.sleep(1.6)
        shown = client.events_of("fragment")[-1].fragment
        assert 1.9 < seconds(shown.start) + seconds(shown.duration) <= 2.2


async def test_a_hundred_streams_come_and_go(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(0.3))
        await client.wait_for("finished")
    await service.wait_idle()
    threads, files, children = resources()
    for number in range(100):
        call = service.stub.Converse()
        await call.write(pb.ConverseRequest(config=pb.ConverseConfig(session_id="s1")))
        if number % 2:
            await call.write(pb.ConverseRequest(pcm_s16le=pcm(syllables(0.5))))
        if number % 3:
            await call.read()
        call.cancel()
    await service.wait_idle()
    for _ in range(100):
        now = resources()
        if now[0] <= threads + 4 and now[1] <= files + 6 and now[2] <= children:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"threads, files, children: {(threads, files, children)} became {now}")
    assert len((await service.conversation()).clips) == 1


def resources() -> tuple[int, int, int]:
    """Returns (threads, open files, children) of this process."""
    own = Path("/proc/self")
    tasks = [path.read_text().split() for path in own.glob("task/*/children")]
    return threading.active_count(), len(list((own / "fd").iterdir())), sum(len(task) for task in tasks)


async def test_infer_is_lost_and_returns(service: SessionHarness) -> None:
    service.fake.die_at = [12]
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(1.5))
        finished = await client.wait_for("finished")
    assert finished.finished.frames >= 38 + 6 + 4
    assert len(service.fake.configs) == 2


async def test_infer_stays_away(service: SessionHarness) -> None:
    service.fake.die_at = [5, 5, 5]
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(1.5))
        async with refused(Code.UNAVAILABLE, "died"):
            await client.wait_for("finished")
    await service.wait_idle()
    assert not (await service.conversation()).clips


@pytest.mark.parametrize("cause", ["reset", "delete", "another"])
async def test_stream_is_aborted_in_the_middle(service: SessionHarness, cause: str) -> None:
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(3.0))
        await client.wait_for("started")
        parts = {"reset": "was reset", "delete": "was deleted", "another": "took over"}[cause]
        async with refused(Code.ABORTED, parts):
            if cause == "reset":
                await service.stub.Reset(pb.ResetRequest(session_id="s1"))
            elif cause == "delete":
                await service.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
            else:
                async with ConverseClient(service) as other:
                    await other.wait_for("fragment", 3)
            await client.wait_for("finished")
    if cause != "delete":
        await service.wait_idle()
        assert service.files() == {"session.json"}


async def test_speak_beside_a_converse(service: SessionHarness) -> None:
    async with ConverseClient(service) as client:
        await client.wait_for("fragment", 3)
        await service.speak(text="Hello there.")
        await client.send_speech(syllables(0.5))
        await client.wait_for("finished")
    assert len((await service.conversation()).clips) == 2


async def test_slow_infer_lowers_the_rate(service: SessionHarness, tmp_path: Path) -> None:
    service.fake.frame_s = 0.048
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(4.0))
        await client.wait_for("finished", 1)
    rates = [event.frame_rate_changed.frame_rate.numerator for event in client.events_of("frame_rate_changed")]
    assert rates, "the change is reported"
    assert rates == sorted(rates, reverse=True)
    assert set(rates) <= {21, 17}
    shown = client.decode(tmp_path / "live.mp4")
    steps = [float(b - a) for a, b in itertools.pairwise(shown.times)]
    assert max(steps) < 0.06, "17 frames per second"
    streams = service.fake.configs
    shown_s = sum(
        (after.start_index - before.start_index) / before.frame_rate.numerator
        for before, after in itertools.pairwise(streams)
    )
    sent_s = service.fake.samples[-1] / 16_000
    assert sent_s == pytest.approx(4.24 - shown_s, abs=0.04), "the audio not shown yet is sent again"
    clip = (await service.conversation()).clips[0]
    assert clip.frames >= 106
    assert read_video(clip.uri).times == [pytest.approx(k / 25) for k in range(clip.frames)], (
        "the clip keeps the rate of the conversation"
    )


async def test_rate_rises_again(service: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate rises one step with each utterance, once infer has had time to recover."""
    monkeypatch.setattr(rate_control, "_MIN_SLOW_S", 0.0)
    service.fake.frame_s = 0.048
    async with ConverseClient(service) as client:
        await client.send_speech(syllables(4.0))
        await client.wait_for("finished")
        service.fake.frame_s = 0.0
        for count in (2, 3):
            await client.send_speech(syllables(0.5))
            await client.wait_for("finished", count)
    rates = [event.frame_rate_changed.frame_rate.numerator for event in client.events_of("frame_rate_changed")]
    lowest = min(rates)
    assert rates[rates.index(lowest) :] == [rate for rate in (17, 21, 25) if rate >= lowest]
