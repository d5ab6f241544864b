"""Live conversations through the front door: a real server, real codecs, PyAV reads; infer and voice are fakes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from services.session.live import film as live_film
from services.session.live.director import Shot
from services.session.live.record import Recorder
from services.session.live.stage import Stage
from tests.media import Film, read
from tests.rpc.test_session import Desk, film, refused
from tests.sounds import syllables
from warmtalk.core.types import Samples
from warmtalk.media.h264 import PictureCoder
from warmtalk.media.i420 import I420
from warmtalk.v1 import session_pb2 as pb

Code = grpc.StatusCode


def pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def seconds(duration: Duration) -> float:
    value: float = duration.ToTimedelta().total_seconds()
    return value


def lasting(value: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(value * 1000))
    return duration


class Client:
    """One Converse: writes what a test says, reads all the time and remembers it with its time."""

    def __init__(self, desk: Desk, **config: object) -> None:
        self.events: list[tuple[float, pb.SpeakResponse]] = []
        self.call = desk.stub.Converse()
        self._config = pb.ConverseConfig(session_id="s1", **config)  # type: ignore[arg-type]
        self._changed = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        await self.send(config=self._config)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def send(self, **message: object) -> None:
        await self.call.write(pb.ConverseRequest(**message))  # type: ignore[arg-type]

    async def say(self, sound: Samples, rate: int = 16_000, piece: float = 0.1) -> None:
        step = int(piece * rate)
        for k in range(0, len(sound), step):
            await self.send(pcm_s16le=pcm(sound[k : k + step]))
        await self.send(end=pb.EndOfUtterance())

    async def until(self, kind: str, count: int = 1) -> pb.SpeakResponse:
        """The count-th event of this kind."""
        async with asyncio.timeout(60):  # finds a hang; the clip waits for whoever else wants the processor
            while len(found := self.of(kind)) < count:
                assert self._reader is not None
                if self._reader.done():
                    self._reader.result()
                    raise AssertionError(f"the stream ended without {kind}: {self.kinds()}")
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]

    async def end(self) -> None:
        """Says that all was said and reads to the end. Raises the status."""
        await self.call.done_writing()
        assert self._reader is not None
        await asyncio.wait_for(self._reader, 30)

    def of(self, kind: str) -> list[pb.SpeakResponse]:
        return [event for _, event in self.events if event.WhichOneof("event") == kind]

    def kinds(self) -> list[str]:
        return [kind for _, event in self.events if (kind := event.WhichOneof("event") or "") != "fragment"]

    def file(self, path: Path) -> Film:
        path.write_bytes(b"".join(event.fragment.data for event in self.of("fragment")))
        return read(path)

    async def _read(self) -> None:
        try:
            async for response in self.call:
                self.events.append((time.monotonic(), response.event))
                self._changed.set()
        finally:
            self._changed.set()


# --- what it is for ------------------------------------------------------------------------------------------------


async def test_idle_speech_idle(desk: Desk, tmp_path: Path) -> None:
    async with Client(desk) as client:
        await asyncio.sleep(0.4)
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.4)
        await client.end()
    assert client.kinds() == ["opened", "accepted", "started", "clip_ready", "conversation_updated", "finished"]
    opened = client.of("opened")[0].opened
    assert (opened.width, opened.height, opened.frame_rate.numerator) == (96, 64, 25)
    assert opened.mime_type.startswith("video/mp4; codecs=")
    fragments = [event.fragment for event in client.of("fragment")]
    assert [one.sequence for one in fragments] == list(range(len(fragments)))
    for a, b in itertools.pairwise(fragments[1:]):
        assert seconds(a.start) + seconds(a.duration) == pytest.approx(seconds(b.start), abs=1e-5)
    start = seconds(client.of("started")[0].started.stream_start)
    spoken = [one for one in fragments if one.speech]
    assert seconds(spoken[0].start) <= start < seconds(spoken[0].start) + seconds(spoken[0].duration)

    shown = client.file(tmp_path / "live.mp4")
    assert shown.times == [pytest.approx(k / 25) for k in range(len(shown.times))]
    first = round(start * 25)
    lights = [int(picture[24, 24].mean()) for picture in shown.pictures]
    index = desk.fake.configs[0].start_index
    assert lights[first + 4 : first + 25] == [pytest.approx(50 + index + k, abs=8) for k in range(4, 25)]
    loud = np.flatnonzero(np.abs(shown.pcm) > 0.06) / 48_000
    assert loud[0] == pytest.approx(start + 0.01, abs=0.03)
    assert loud[-1] < start + 1.01


async def test_the_avatar_is_warm_before_anything_is_said(desk: Desk) -> None:
    """Also of a session that was made before the service was started."""
    await desk.stop()
    await desk.start()
    desk.fake.warmed.clear()
    async with Client(desk) as client:
        await client.until("fragment", 3)
    assert desk.fake.warmed == ["ann"]


async def test_clip_is_what_was_shown(desk: Desk) -> None:
    async with Client(desk) as client:
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(0.2)
        await client.say(syllables(0.6))
        await client.until("finished", 2)
    conversation = await desk.conversation()
    first, second = (film(clip.uri) for clip in conversation.clips)
    assert len(first.pictures) == 25 + 6 + 4, "the speech, its tail, the mouth closing"
    assert len(second.pictures) > 15 + 10, "idle pictures in front"
    assert len(second.pictures) <= 15 + 10 + 15
    whole = film(conversation.uri)
    assert np.array_equal(whole.pcm, np.concatenate([first.pcm, second.pcm]))
    assert conversation.samples == conversation.frames * 1920
    assert whole.times == [pytest.approx(k / 25) for k in range(conversation.frames)]


@pytest.mark.parametrize("before", [False, True], ids=["live first", "after a clip"])
async def test_a_picture_is_coded_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """A clip has the stream's own pictures, also in a conversation that was not begun live."""
    if before:
        await desk.say(text="Hello there.")
    again: list[I420] = []
    encode = PictureCoder.encode
    monkeypatch.setattr(PictureCoder, "encode", lambda *args, **more: again.append(args[1]) or encode(*args, **more))
    async with Client(desk) as client:
        await client.until("fragment", 3)
        await client.say(syllables(1.0))
        await client.until("finished")
        await asyncio.sleep(1.0)
        await client.say(syllables(0.6))
        await client.until("finished", 2)
        shown = client.file(tmp_path / "live.mp4")
    lead_in = round(0.6 * 25)
    assert len(again) <= (before + 1) * lead_in, "the idle pictures in front of the speech, no others"
    await desk.say(text="Good bye.")
    conversation = await desk.conversation()
    for clip, fewer in zip(conversation.clips[before:-1], (lead_in if before else 0, lead_in), strict=True):
        kept = film(clip.uri).pictures[fewer:]
        begin = next(k for k, one in enumerate(shown.pictures) if np.array_equal(one, kept[0]))
        for one, other in zip(kept, shown.pictures[begin:], strict=False):
            assert np.array_equal(one, other)
    whole = film(conversation.uri)
    assert len(whole.pictures) == conversation.frames == sum(clip.frames for clip in conversation.clips)
    parts = [one for clip in conversation.clips for one in film(clip.uri).pictures]
    assert all(np.array_equal(one, other) for one, other in zip(whole.pictures, parts, strict=True))


async def test_the_head_goes_on_in_the_next_clip(desk: Desk) -> None:
    """Also where idle time was left out, and when the next clip is no live one."""
    async with Client(desk) as client:
        await asyncio.sleep(0.5)
        await client.say(syllables(1.0))
        await client.until("finished")
        await client.end()
    await desk.say(text="Hello")
    live, plain = desk.fake.configs
    assert live.start_index >= 10, "the head had moved"
    assert plain.start_index == live.start_index + 25 + 6 + 4


async def test_text_in_pieces(desk: Desk) -> None:
    async with Client(desk) as client:
        for piece in ("Hel", "lo the", "re, my friend. How", " are you? Fi", "ne."):
            await client.send(text=piece)
        await client.until("started")
        assert desk.voice.said[:1] == ["Hello there, my friend."], "before the text has ended"
        await client.send(end=pb.EndOfUtterance())
        await client.until("finished")
    assert desk.voice.said == ["Hello there, my friend.", "How are you?", "Fine."]
    assert [clip.text for clip in (await desk.conversation()).clips] == ["Hello there, my friend. How are you? Fine."]


# --- interruption --------------------------------------------------------------------------------------------------


async def test_interrupt_closes_the_mouth(desk: Desk) -> None:
    async with Client(desk) as client:
        await asyncio.sleep(0.2)
        await client.say(syllables(5.0))
        await client.until("started")
        await asyncio.sleep(0.6)
        called = time.monotonic()
        await client.send(interrupt=pb.InterruptNow())
        await client.until("finished")
        await asyncio.sleep(0.4)
        spoken = [event.fragment for event in client.of("fragment") if event.fragment.speech]
        began = next(at for at, event in client.events if event.fragment.sequence == 1)
        closed = seconds(spoken[-1].start) + seconds(spoken[-1].duration)
        assert closed - (called - began) < 0.4, "0.25 s and room for a busy machine"
        assert client.kinds()[2:] == ["started", "interrupted", "clip_ready", "conversation_updated", "finished"]
        await client.say(syllables(0.5))
        await client.until("finished", 2)
    clips = (await desk.conversation()).clips
    played = seconds(client.of("interrupted")[0].interrupted.played)
    assert 0.4 < played < 1.2
    assert clips[0].frames == round(played * 25)
    assert len(clips) == 2, "it goes on"
    assert desk.fake.open <= 1


async def test_interrupt_keeps_what_was_played(desk: Desk) -> None:
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        start = seconds((await client.until("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=lasting(start + 0.32)))
        interrupted = await client.until("interrupted")
        await client.until("finished")
    assert seconds(interrupted.interrupted.played) == pytest.approx(0.32)
    clip = (await desk.conversation()).clips[0]
    assert clip.frames == 8
    kept = film(clip.uri)
    assert (len(kept.pictures), len(kept.pcm)) == (8, 8 * 1920)


async def test_a_mouth_that_was_cut_closes_in_the_next_clip(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording has the cut, and then the idle pictures before the next utterance: no snap between them."""
    leads: list[Shot | None] = []
    lead = Recorder.lead
    monkeypatch.setattr(Recorder, "lead", lambda *args: leads.append(args[4]) or lead(*args))
    drawn: list[Shot] = []
    picture = Stage.picture
    monkeypatch.setattr(Stage, "picture", lambda stage, shot: drawn.append(shot) or picture(stage, shot))
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        start = seconds((await client.until("started")).started.stream_start)
        await asyncio.sleep(0.6)
        await client.send(interrupt=pb.InterruptNow(position=lasting(start + 0.4)))
        await client.until("finished")
        await asyncio.sleep(1.0)
        await client.say(syllables(0.5))
        await client.until("finished", 2)
    cut = leads[0]
    assert cut is not None
    following = desk.fake.configs[0].start_index + 10
    assert cut.index == following - 1, "the last picture that was kept"
    shut = {shot.index: shot.mix for shot in drawn if shot.patch is cut.patch and shot.mix not in (0.0, 1.0)}
    assert shut == {following: pytest.approx(2 / 3), following + 1: pytest.approx(1 / 3)}


async def test_interrupt_of_what_was_not_heard_yet(desk: Desk) -> None:
    async with Client(desk) as client:
        await client.send(playback=pb.PlaybackPosition(position=lasting(0.0)))
        await client.say(syllables(5.0))
        await client.until("started")
        await client.send(interrupt=pb.InterruptNow())
        await client.until("finished")
    assert not (await desk.conversation()).clips
    assert desk.files() == {"session.json"}


async def test_interrupt_by_its_own_call(desk: Desk) -> None:
    request = pb.InterruptRequest(session_id="s1")
    assert not (await desk.stub.Interrupt(request)).HasField("played"), "nothing was being said"
    async with Client(desk) as client:
        await client.say(syllables(5.0))
        await client.until("started")
        await asyncio.sleep(0.4)
        request.played.CopyFrom(lasting(0.2))
        assert seconds((await desk.stub.Interrupt(request)).played) == pytest.approx(0.2)
        await client.until("finished")
    assert (await desk.conversation()).clips[0].frames == 5


async def test_interrupt_of_a_speak(desk: Desk) -> None:
    desk.fake.frame_s = 0.02
    request = pb.SpeakRequest(session_id="s1", text="word " * 60)
    events = []
    async for event in desk.stub.Speak(request):
        events.append(event.WhichOneof("event"))
        if event.progress.frames_done == 20:
            answer = await desk.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=lasting(0.4)))
            assert seconds(answer.played) == pytest.approx(0.4)
    assert events[-4:] == ["interrupted", "clip_ready", "conversation_updated", "finished"]
    assert (await desk.conversation()).clips[0].frames == 10
    await desk.idle()


async def test_interrupt_of_a_speak_before_anything_was_played(desk: Desk) -> None:
    desk.fake.hold_at = 3
    call = desk.stub.Speak(pb.SpeakRequest(session_id="s1", text="word " * 20))
    await asyncio.wait_for(desk.fake.held.wait(), 10)
    answer = await desk.stub.Interrupt(pb.InterruptRequest(session_id="s1", played=lasting(0)))
    assert answer.HasField("played")
    assert seconds(answer.played) == 0
    assert [event.WhichOneof("event") async for event in call][-2:] == ["interrupted", "finished"]
    assert not (await desk.conversation()).clips


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "parts"),
    [
        ([{"pcm_s16le": b"\0\0"}], ["the first message of Converse is not a config. Send ConverseConfig first"]),
        ([{"config": {}}], ["session_id is missing"]),
        ([{"config": {"session_id": "s1", "sample_rate_hz": 7999}}], ["sample_rate_hz is 7999. Use 8000 to 48000"]),
        ([{"config": {"session_id": "s1", "channels": 3}}], ["channels is 3. Use 1 or 2"]),
        (
            [{"config": {"session_id": "s1", "fragment_duration": Duration(seconds=2)}}],
            ["fragment_duration is 2 s. Use 40 ms to 1 s"],
        ),
        ([{"config": {"session_id": "s1"}}, {"pcm_s16le": b"\0\0\0"}], ["pcm_s16le has 3 bytes, not a multiple of 2"]),
        (
            [{"config": {"session_id": "s1", "channels": 2}}, {"pcm_s16le": bytes(6)}],
            ["pcm_s16le has 6 bytes, not a multiple of 4"],
        ),
        ([{"config": {"session_id": "s1"}}, {"text": "a"}, {"pcm_s16le": bytes(4)}], ["mixes text and sound"]),
        ([{"config": {"session_id": "s1"}}, {"pcm_s16le": bytes(4)}, {"text": "a"}], ["mixes text and sound"]),
        ([{"config": {"session_id": "s1"}}, {"config": {"session_id": "s1"}}], ["a second config came"]),
        ([{"config": {"session_id": "s1"}}, {"text": "a" * 5001}], ["text has 5001 characters. Send at most 5000"]),
        ([{"config": {"session_id": "s1"}}, {"text": "?!"}, {"end": {}}], ["text has no letter or digit to say"]),
        ([{"config": {"session_id": "s1"}}, {}], ["a message carries nothing"]),
    ],
)
async def test_messages_that_are_refused(desk: Desk, messages: list[dict[str, object]], parts: list[str]) -> None:
    call = desk.stub.Converse(iter([pb.ConverseRequest(**one) for one in messages]))  # type: ignore[arg-type]
    async with refused(Code.INVALID_ARGUMENT, *parts):
        async with asyncio.timeout(10):
            _ = [response async for response in call]
    await desk.idle()
    assert desk.files() == {"session.json"}


async def test_unknown_session(desk: Desk) -> None:
    request = pb.ConverseRequest(config=pb.ConverseConfig(session_id="nobody"))
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        _ = [response async for response in desk.stub.Converse(iter([request]))]
    async with refused(Code.NOT_FOUND, "there is no session 'nobody'"):
        await desk.stub.Interrupt(pb.InterruptRequest(session_id="nobody"))


async def test_an_end_or_an_interrupt_without_speech_means_nothing(desk: Desk) -> None:
    async with Client(desk) as client:
        for message in ({"end": {}}, {"interrupt": {}}, {"pcm_s16le": b""}, {"end": {}}):
            await client.send(**message)
        await client.until("fragment", 4)
        await client.end()
    assert client.kinds() == ["opened"]


@pytest.mark.parametrize(("rate", "channels", "piece"), [(8_000, 1, 0.013), (44_100, 2, 0.25), (48_000, 1, 0.001)])
async def test_sound_of_any_rate_and_length(desk: Desk, rate: int, channels: int, piece: float) -> None:
    sound = np.repeat(syllables(0.6, rate), channels)
    async with Client(desk, sample_rate_hz=rate, channels=channels) as client:
        step = int(piece * rate) * channels
        for place in range(0, len(sound), step):
            await client.send(pcm_s16le=pcm(sound[place : place + step]))
        await client.send(end=pb.EndOfUtterance())
        frames = (await client.until("finished")).finished.frames
    assert 0 <= frames - (15 + 6 + 4) <= 5, "all of it; a picture stands where sound or infer is late"


# --- too fast, too slow, gone --------------------------------------------------------------------------------------


async def test_ten_times_slower_than_real_time(desk: Desk) -> None:
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


async def test_player_that_stands_still(desk: Desk) -> None:
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


async def test_a_hundred_streams_come_and_go(desk: Desk) -> None:
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


async def test_infer_is_lost_and_comes_back(desk: Desk) -> None:
    desk.fake.die_at = [12]
    async with Client(desk) as client:
        await client.say(syllables(1.5))
        finished = await client.until("finished")
    assert finished.finished.frames >= 38 + 6 + 4
    assert len(desk.fake.configs) == 2


async def test_infer_stays_away(desk: Desk) -> None:
    desk.fake.die_at = [5, 5, 5]
    async with Client(desk) as client:
        await client.say(syllables(1.5))
        async with refused(Code.UNAVAILABLE, "died"):
            await client.until("finished")
    await desk.idle()
    assert not (await desk.conversation()).clips


@pytest.mark.parametrize("what", ["reset", "delete", "another"])
async def test_the_session_ends_in_the_middle(desk: Desk, what: str) -> None:
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


async def test_speak_beside_a_converse(desk: Desk) -> None:
    async with Client(desk) as client:
        await client.until("fragment", 3)
        await desk.say(text="Hello there.")
        await client.say(syllables(0.5))
        await client.until("finished")
    assert len((await desk.conversation()).clips) == 2


# --- playback protection -------------------------------------------------------------------------------------------


async def test_slow_infer_lowers_the_rate(desk: Desk, tmp_path: Path) -> None:
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
    clip = (await desk.conversation()).clips[0]
    assert clip.frames >= 106
    assert film(clip.uri).times == [pytest.approx(k / 25) for k in range(clip.frames)], "the clip keeps its rate"


async def test_the_rate_rises_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step with each utterance, once infer has had time to recover."""
    monkeypatch.setattr(live_film, "_SLOW_S", 0.0)
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
