"""The talk page in a real Chromium, with the real services and the real voice."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest

from tests.browser.stack import AUTOPLAY, MICROPHONE, RECORD_FRAMES, NetworkLink, Services, Tab, open_page

NAMELESS = """[...document.querySelectorAll('button, a, input, textarea, video, section, ol')]
    .filter((e) => e.checkVisibility())
    .filter((e) => !(e.textContent.trim() || e.labels?.length || e.ariaLabel || e.getAttribute('aria-labelledby')))
    .map((e) => e.id || e.tagName)"""
PLAIN = RECORD_FRAMES + "; delete window.MediaSource"
FRAME_MS = 40


async def test_a_bad_file_is_rejected_and_a_photo_speaks(services: Services, portrait: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    await asyncio.to_thread(bad.write_text, "this is no picture " * 20)
    async with open_page(services.url) as one:
        await one.wait_visible("#setup")
        assert await one.page.inner_text("#setup-title") == "No face yet"
        await one.page.set_input_files("#file", bad)
        assert "is not a video or image" in await one.wait_notice()
        await one.wait_visible("#drop")
        await one.page.set_input_files("#file", portrait)
        await one.wait_visible("#making")
        await one.wait_live()
        await one.ask("I like rain.")
        await one.until("!document.querySelector('#stop').disabled")
        await one.wait_clips()
        transcript = await one.page.inner_text("#log")
        assert "I like rain." in transcript
        assert "What made you think of that?" in transcript
        check_bytes(one.media, loads=1)
        await one.page.click("#log button")
        await one.until("document.querySelector('#record').currentTime > 0.3")
        await one.page.click("#back")
        assert not await one.page.is_visible("#record")
        link = await one.page.get_attribute("#download", "href")
        video = await one.page.request.get(services.url.rstrip("/") + str(link))
        assert "attachment" in video.headers["content-disposition"]
        with av.open(io.BytesIO(await video.body())) as file:
            assert sum(1 for _ in file.decode(video=0)) > 50
        await one.page.click("#reset")
        await one.page.click("#confirm button[value=yes]")
        await one.until("document.querySelector('#rows').children.length === 0")
        await one.wait_live()


async def test_escape_stops_a_long_answer(services: Services) -> None:
    async with open_page(services.url) as one:
        await one.wait_live()
        await one.ask("One two three four five six seven eight nine ten eleven twelve. " * 4)
        await one.until("document.querySelector('#log .soft')")
        await asyncio.sleep(3)
        await one.page.press("body", "Escape")
        await one.until("document.querySelector('#stop').disabled")
        await one.wait_clips()
        await one.ask("Go on.")
        await one.wait_clips(2)


async def test_a_reload_during_an_answer_resumes(services: Services) -> None:
    async with open_page(services.url) as one:
        await one.wait_live()
        await one.ask("Tell me a long story about a small boat on a very wide river.")
        await one.until("document.querySelector('#log .soft')")
        await one.until("frameTimes.length > 30")
        before = await one.page.evaluate("sessionStorage['warmtalk.stream']")
        await one.page.reload()
        await one.until("frameTimes.length > 5")
        assert await one.page.evaluate("sessionStorage['warmtalk.stream']") == before
        await check_resumed(one)
        await one.wait_clips()
        assert "a small boat" in await one.page.inner_text("#log .me")
        assert await one.page.evaluate("document.querySelectorAll('#log button').length") == 1


async def check_resumed(one: Tab) -> None:
    """Checks that the last load of the page started at the position of the load before and showed no earlier frame.
    Allows for one frame, which a browser may show a little before its player's clock.
    """
    *_, before, after = await one.shown_frames()
    left, stored, first_seek = await one.page.evaluate(
        "[Number(sessionStorage['test.left']), storedPosition, firstSeek]"
    )
    assert first_seek == pytest.approx(stored, abs=2)
    assert left - 2 <= stored <= left + 3 * FRAME_MS, "the video played on while the page was unloading"
    assert before[-1] - FRAME_MS <= after[0], (before[-5:], left, after[:5])
    assert after == sorted(after)


async def test_reloads_in_the_first_second_show_no_frame_twice(services: Services) -> None:
    async with open_page(services.url) as one:
        await one.wait_live()
        await one.page.click("#reset")
        stream = await one.page.evaluate("sessionStorage['warmtalk.stream']")
        await one.page.click("#confirm button[value=yes]")
        await one.until(f"sessionStorage['warmtalk.stream'] !== '{stream}'")
        await one.page.evaluate("frameTimes.splice(0)")
        for count in (2, 4, 1, 8):
            await one.until(f"frameTimes.length >= {count}")
            await one.page.reload()
            await one.until("frameTimes.length > 1")
            await check_resumed(one)


async def test_the_infer_service_is_killed_and_restarted(services: Services) -> None:
    async with open_page(services.url) as one:
        await one.wait_live()
        await asyncio.to_thread(services.kill, "infer")
        await one.ask("Are you there?")
        assert "infer" in await one.wait_notice()
        await asyncio.to_thread(services.start, "infer")
        await one.wait_live()
        await one.ask("And now?")
        await one.wait_clips()


async def test_a_lost_connection_is_reported_and_restored(services: Services) -> None:
    async with open_page(services.url) as one:
        await one.wait_live()
        await asyncio.to_thread(services.kill, "gateway")
        assert "connection is lost" in await one.wait_notice()
        assert await one.page.inner_text("#state") == "Not connected"
        await one.ask("Is it sent?")
        assert await one.page.input_value("#words") == "Is it sent?"
        await asyncio.to_thread(services.start, "gateway")
        await one.wait_live()
        await one.until("document.querySelector('#notice').hidden")
        await one.page.press("#words", "Enter")
        await one.wait_clips()


async def test_recorded_speech_is_spoken_back(services: Services) -> None:
    async with open_page(services.url, AUTOPLAY, *MICROPHONE, permissions=["microphone"]) as one:
        await one.wait_live()
        await one.page.focus("#hold")
        await one.page.keyboard.down(" ")
        await one.until("document.querySelector('#hold').getAttribute('aria-pressed') === 'true'")
        await asyncio.sleep(1.5)
        await one.page.keyboard.up(" ")
        await one.wait_clips()
        assert "(your voice)" in await one.page.inner_text("#log")


async def test_a_denied_microphone_is_explained(services: Services) -> None:
    async with open_page(services.url, AUTOPLAY) as one:
        await one.wait_live()
        await one.page.click("#hold")
        assert "microphone" in await one.wait_notice()
        assert await one.page.get_attribute("#hold", "aria-pressed") == "false"


async def test_blocked_autoplay_offers_a_button(services: Services) -> None:
    async with open_page(services.url, "--autoplay-policy=user-gesture-required") as one:
        await asyncio.sleep(5)  # Chromium counts evaluating a script in the page as a user gesture
        await one.wait_visible(":is(#sound, #start)")
        button = "#start" if await one.page.is_visible("#start") else "#sound"
        await one.page.click(button)
        await one.wait_live()
        assert not await one.page.evaluate("document.querySelector('#live').muted")
        assert not await one.page.is_visible(button)


async def test_without_mediasource_the_page_plays_the_plain_stream(services: Services) -> None:
    async with open_page(services.url, script=PLAIN) as one:
        await one.wait_live()
        await one.ask("Hello.")
        await one.wait_clips()
        assert one.media == []
        assert "live.mp4" in await one.page.evaluate("document.querySelector('#live').src")


async def test_plain_video_resumes(services: Services) -> None:
    async with NetworkLink(services.config.gateway.listen) as link, open_page(link.url, script=PLAIN) as one:
        await one.wait_live()
        await one.ask("Tell me a long story about a small boat on a very wide river.")
        await one.until("document.querySelector('#log .soft')")
        for _ in range(3):
            await one.until("frameTimes.length > 25")
            stream = await one.page.evaluate("sessionStorage['warmtalk.stream']")
            link.drop_connections()
            before = await one.page.evaluate("frameTimes.splice(0)")
            await one.until("frameTimes.length > 5")
            *_, after = await one.shown_frames()
            assert await one.page.evaluate("sessionStorage['warmtalk.stream']") == stream
            assert [*before, *after] == sorted([*before, *after]), (before[-5:], after[:5])
        await one.page.reload()
        await one.until("frameTimes.length > 5")
        before, after = await one.shown_frames()
        assert before[-1] - FRAME_MS <= after[0] <= before[-1] + 3 * FRAME_MS
        await one.wait_clips()


async def test_the_page_works_by_keyboard_and_every_control_has_a_name(services: Services) -> None:
    async with open_page(services.url, viewport={"width": 390, "height": 844}) as one:
        await one.wait_live()
        nameless = await one.page.evaluate(NAMELESS)
        assert nameless == []
        assert await one.page.evaluate("document.documentElement.scrollWidth") <= 390
        await one.ask("Hello.")
        await one.wait_clips()
        await one.page.focus("#change")
        order = []
        for _ in range(7):
            order.append(await one.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            await one.page.keyboard.press("Tab")
        assert order == ["change", "download", "reset", "log", "0:00", "words", "hold"]


async def test_the_page_asks_for_the_key_and_works_by_a_token(services: Services, tmp_path: Path) -> None:
    locked = Services(tmp_path, {"WARMTALK_API_KEY": "secret"})
    locked.point_at(services)
    try:
        await asyncio.to_thread(locked.start, "gateway")
        async with open_page(locked.url) as one:
            await one.wait_visible("#unlock")
            await one.page.fill("#key", "wrong")
            await one.page.press("#key", "Enter")
            assert "not the key" in await one.wait_notice()
            await one.page.fill("#key", "secret")
            await one.page.press("#key", "Enter")
            await one.wait_live()
            await one.ask("Hello.")
            await one.wait_clips()
            await one.page.click("#log button")
            await one.until("document.querySelector('#record').currentTime > 0.2")
            await one.page.reload()
            await one.wait_live()
    finally:
        locked.stop()


async def test_twenty_turns_with_lost_connections_are_one_stream(services: Services, tmp_path: Path) -> None:
    """All media that the browser received form one stream without gap or repeat, in spite of dropped connections."""
    turns = 20
    with chat_server() as url:
        chatty = Services(tmp_path, {"WARMTALK_GATEWAY_CHAT_URL": url})
        chatty.point_at(services)
        try:
            await asyncio.to_thread(chatty.start, "gateway")
            async with NetworkLink(chatty.config.gateway.listen) as link, open_page(link.url) as one:
                await one.wait_live()
                for turn in range(turns):
                    await one.ask(f"Turn {turn}.")
                    if turn % 2:
                        await one.until("document.querySelector('#log .soft')")
                        if turn % 4 == 3:
                            await one.until("!document.querySelector('#stop').disabled")
                        link.drop_connections()
                    if turn % 7 == 6:
                        await one.page.reload()
                    await one.wait_clips(turn + 1)
                rows = await one.page.evaluate("[...document.querySelectorAll('#log li')].map((e) => e.textContent)")
                loads = await one.shown_frames()
        finally:
            chatty.stop()
    assert sum("You: Turn" in row for row in rows) == turns
    assert sum("Of course." in row for row in rows) == turns
    assert all(shown == sorted(shown) for shown in loads), "no frame after a later one"
    check_bytes(one.media, loads=len(loads))


def check_bytes(media: list[bytes], *, loads: int) -> None:
    """Checks the media of all sockets. Each load of the page starts with one initialization segment. Fragments received
    twice, by a load that started at the key frame before its position, are equal. All fragments form one stream.
    """
    fragments: dict[int, bytes] = {}
    starts = [n for n, one in enumerate(media) if one[4:8] == b"ftyp"]
    assert len(starts) == loads
    for start, end in itertools.pairwise([*starts, len(media)]):
        numbers = [int.from_bytes(one[20:24], "big") for one in media[start + 1 : end]]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "no fragment lost or twice within a load"
        for number, data in zip(numbers, media[start + 1 : end], strict=True):
            assert fragments.setdefault(number, data) == data, "nothing is rendered twice"
    assert list(fragments) == list(range(1, len(fragments) + 1))
    whole = media[0] + b"".join(fragments.values())
    for number in (0, 1):  # video, audio
        with av.open(io.BytesIO(whole)) as file:
            packets = [one for one in file.demux(file.streams[number]) if one.size]
        with av.open(io.BytesIO(whole)) as file:
            decoded = [frame.pts for frame in file.decode(file.streams[number])]
        for one, following in itertools.pairwise(packets):
            assert one.pts is not None
            assert one.pts + (one.duration or 0) == following.pts
        assert decoded == [one.pts for one in packets]


@contextmanager
def chat_server() -> Iterator[str]:
    """Runs an OpenAI-compatible server with short answers. Yields its base URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'data: {"choices": [{"delta": {"content": "Of course."}}]}\n\ndata: [DONE]\n\n'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
