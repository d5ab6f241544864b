"""Sound too fast, players too slow, services gone; the rate that falls and rises again."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.audio import syllables
from tests.rpc.live.client import Client, lasting, pcm, seconds
from tests.rpc.session.harness import Code, SessionHarness, film, refused
from warmtalk.services.session.live import rate_control
from warmtalk.v1 import session_pb2 as pb


async def test_ten_times_slower_than_real_time(desk: SessionHarness) -> None:
    """The mouth closes while sound is missing, and what was said is all there."""
    sound = syllables(0.6)
    async with Client(desk) as client:
        for place in range(0, len(sound), 1600):
            await client.send(pcm_s16le=pcm(sound[place : place + 1600]))
            await asyncio.sleep(1.0)
        await client.send(end=pb.EndOfUtterance())
        await client.until("finished")
    assert len(desk.fake.configs) == 6, "a take for each piece"
    clip = (await desk.conversation()).clips[0]
    pcm_kept = film(clip.uri).pcm.astype(int)
    loud = np.abs(pcm_kept) > 300
    assert np.count_nonzero(loud) > 0.5 * np.count_nonzero(np.abs(syllables(0.6, 48_000)) > 0.01)


async def test_player_that_stands_still(desk: SessionHarness) -> None:
    """The stream goes no further than 10 s ahead of a player that says where it is."""
    async with Client(desk) as client:
        await client.send(playback=pb.PlaybackPosition(position=lasting(-9.0)))
        await asyncio.sleep(2.0)
        shown = client.of("fragment")[-1].fragment
        assert 0.9 < seconds(shown.start) + seconds(shown.duration) <= 1.2
        await client.send(playback=pb.PlaybackPosition(position=lasting(-8.0)))
        await asyncio.sleep(1.6)
        shown = client.of("fragment")[-1].fragment
        assert 1.9 < seconds(shown.start) + seconds(shown.duration) <= 2.2


async def test_a_hundred_streams_come_and_go(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await client.say(syllables(0.3))
        await client.until("finished")
    await desk.idle()
    threads, files, children = used()
    for number in range(100):
        call = desk.stub.Converse()
        await call.write(pb.ConverseRequest(config=pb.ConverseConfig(session_id="s1")))
        if number % 2:
            await call.write(pb.ConverseRequest(pcm_s16le=pcm(syllables(0.5))))
        if number % 3:
            await call.read()
        call.cancel()
    await desk.idle()
    for _ in range(100):
        now = used()
        if now[0] <= threads + 4 and now[1] <= files + 6 and now[2] <= children:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"threads, files, children: {(threads, files, children)} became {now}")
    assert len((await desk.conversation()).clips) == 1


def used() -> tuple[int, int, int]:
    """(threads, open files, children) of this process."""
    own = Path("/proc/self")
    tasks = [path.read_text().split() for path in own.glob("task/*/children")]
    return threading.active_count(), len(list((own / "fd").iterdir())), sum(len(task) for task in tasks)


async def test_infer_is_lost_and_comes_back(desk: SessionHarness) -> None:
    desk.fake.die_at = [12]
    async with Client(desk) as client:
        await client.say(syllables(1.5))
        finished = await client.until("finished")
    assert finished.finished.frames >= 38 + 6 + 4
    assert len(desk.fake.configs) == 2


async def test_infer_stays_away(desk: SessionHarness) -> None:
    desk.fake.die_at = [5, 5, 5]
    async with Client(desk) as client:
        await client.say(syllables(1.5))
        async with refused(Code.UNAVAILABLE, "died"):
            await client.until("finished")
    await desk.idle()
    assert not (await desk.conversation()).clips


@pytest.mark.parametrize("what", ["reset", "delete", "another"])
async def test_the_session_ends_in_the_middle(desk: SessionHarness, what: str) -> None:
    async with Client(desk) as client:
        await client.say(syllables(3.0))
        await client.until("started")
        parts = {"reset": "was reset", "delete": "was deleted", "another": "took over"}[what]
        async with refused(Code.ABORTED, parts):
            if what == "reset":
                await desk.stub.Reset(pb.ResetRequest(session_id="s1"))
            elif what == "delete":
                await desk.stub.DeleteSession(pb.DeleteSessionRequest(session_id="s1"))
            else:
                async with Client(desk) as other:
                    await other.until("fragment", 3)
            await client.until("finished")
    if what != "delete":
        await desk.idle()
        assert desk.files() == {"session.json"}


async def test_speak_beside_a_converse(desk: SessionHarness) -> None:
    async with Client(desk) as client:
        await client.until("fragment", 3)
        await desk.say(text="Hello there.")
        await client.say(syllables(0.5))
        await client.until("finished")
    assert len((await desk.conversation()).clips) == 2


async def test_slow_infer_lowers_the_rate(desk: SessionHarness, tmp_path: Path) -> None:
    desk.fake.frame_s = 0.048
    async with Client(desk) as client:
        await client.say(syllables(4.0))
        await client.until("finished", 1)
    rates = [event.frame_rate_changed.frame_rate.numerator for event in client.of("frame_rate_changed")]
    assert rates, "it says so"
    assert rates == sorted(rates, reverse=True)
    assert set(rates) <= {21, 17}
    shown = client.file(tmp_path / "live.mp4")
    steps = [float(b - a) for a, b in itertools.pairwise(shown.times)]
    assert max(steps) < 0.06, "17 pictures a second"
    streams = desk.fake.configs
    shown_s = sum(
        (after.start_index - before.start_index) / before.frame_rate.numerator
        for before, after in itertools.pairwise(streams)
    )
    assert desk.fake.samples[-1] / 16_000 == pytest.approx(4.24 - shown_s, abs=0.04), "it hears what is not shown yet"
    clip = (await desk.conversation()).clips[0]
    assert clip.frames >= 106
    assert film(clip.uri).times == [pytest.approx(k / 25) for k in range(clip.frames)], "the clip keeps its rate"


async def test_the_rate_rises_again(desk: SessionHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with each utterance, once infer has had time to recover."""
    monkeypatch.setattr(rate_control, "_MIN_SLOW_S", 0.0)
    desk.fake.frame_s = 0.048
    async with Client(desk) as client:
        await client.say(syllables(4.0))
        await client.until("finished")
        desk.fake.frame_s = 0.0
        for said in (2, 3):
            await client.say(syllables(0.5))
            await client.until("finished", said)
    rates = [event.frame_rate_changed.frame_rate.numerator for event in client.of("frame_rate_changed")]
    lowest = min(rates)
    assert rates[rates.index(lowest) :] == [rate for rate in (17, 21, 25) if rate >= lowest]
