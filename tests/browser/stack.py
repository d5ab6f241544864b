"""The real services as child processes, each to be killed and brought back, and a real Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.supervisor import service_specs
from warmtalk.config import Config

ARGS = ["--no-sandbox", "--disable-gpu"]
ALLOWED = "--autoplay-policy=no-user-gesture-required"
MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
LIVE = "document.querySelector('#live').currentTime > 0.3 && document.querySelector('#state').textContent === 'Live'"


SEEN = """(() => {
  const before = JSON.parse(sessionStorage['test.seen'] || '[]');
  const seen = window.seen = [];
  window.kept = 1000 * Number(sessionStorage['warmtalk.position'] || 0);
  addEventListener('DOMContentLoaded', () => {
    const video = document.querySelector('#live');
    if (!video) return;
    const base = () => Number(new URL(video.currentSrc).searchParams.get('position') || 0);
    const look = (_, frame) => {
      if (getComputedStyle(video).visibility === 'visible') seen.push(Math.round(1000 * (base() + frame.mediaTime)));
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
    video.addEventListener('seeking', () => { window.begun = 1000 * video.currentTime; }, { once: true });
    let place = 0, since = 0;
    setInterval(() => {
      const { buffered, currentTime, paused, seeking } = video, ranges = buffered.length;
      if (ranges > 1) fault(`a hole at ${buffered.end(0)}`);
      const ready = ranges && video.src.startsWith('blob:') && buffered.end(ranges - 1) - currentTime > 0.5;
      if (currentTime !== place || paused || seeking || !ready) since = performance.now();
      else if (performance.now() - since > 2000) fault(`stands at ${currentTime}, has ${buffered.end(0)}`);
      place = currentTime;
    }, 100);
  });
  const fault = (what) => { sessionStorage['test.faults'] = (sessionStorage['test.faults'] || '') + what + '; '; };
  addEventListener('pagehide', () => {
    sessionStorage['test.seen'] = JSON.stringify([...before, seen]);
    sessionStorage['test.left'] = 1000 * document.querySelector('#live')?.currentTime;
  });
  window.loads = () => [...before, seen];
})()"""
"""Notes each picture that is shown, in ms of the stream, by load of the page, and where the first seek led; and as
faults, holes in what came and a MediaSource player that stands though it has what comes next (when a plain one begins
is the browser's to decide).
"""


class Services:
    """All four, on free ports, in a folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.config, settings = isolated_config(Config(), folder / "data")
        self._own = environ or {}
        self._environ = {**os.environ, **settings, "WARMTALK_PREP_STILL_SECONDS": "1", **self._own}
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://{self.config.gateway.listen}/"

    def point_at(self, other: Services) -> None:
        """Its gateway serves the services of the other, on an address of its own."""
        place = {"WARMTALK_GATEWAY_LISTEN": self._environ["WARMTALK_GATEWAY_LISTEN"]}
        self._environ = {**other._environ, **place, **self._own}

    def start(self, *names: str) -> None:
        """Until they are ready."""
        for name in names:
            with open(self._folder / f"{name}.log", "ab") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", f"warmtalk.services.{name}", "--until-eof"],
                    env=self._environ, stdin=subprocess.PIPE, stdout=log, stderr=log,
                )  # fmt: skip
        for program in service_specs(self.config):
            if program.name in names:
                asyncio.run(program.wait_ready(60))

    def kill(self, name: str) -> None:
        child = self._children.pop(name)
        child.kill()
        child.communicate()

    def stop(self) -> None:
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.communicate(timeout=20)


class Line:
    """The network between a browser and a gateway, which can be cut. For one event loop."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.down = False
        """New connections are refused."""

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Every connection, at once and without a word; new ones get through unless it is down."""
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        host, _, port = self._gateway
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        ends = {writer, far_writer}
        self._writers |= ends
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        for end in ends:
            end.close()
        self._writers -= ends
        self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class Tab:
    """A page, what its sockets got, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.media: list[bytes] = []
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.on("websocket", lambda socket: socket.on("framereceived", self._got))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _got(self, payload: bytes | str) -> None:
        if isinstance(payload, bytes):
            self.media.append(payload)

    def watch_requests(self, own: str) -> None:
        self.page.on(
            "request",
            lambda one: self.foreign.append(one.url) if not one.url.startswith((own, "blob:", "data:")) else None,
        )

    async def until(self, script: str, seconds: float = 60) -> Any:
        """Waits for an expression to be true; the page's security policy allows no polling inside it."""
        deadline = time.monotonic() + seconds
        while not (value := await self.page.evaluate(script)):
            assert time.monotonic() < deadline, f"{script}: {await self.page.inner_text('body')}"
            await asyncio.sleep(0.05)
        return value

    async def shown(self, selector: str, seconds: float = 60) -> None:
        await self.page.wait_for_selector(f"{selector}:visible", timeout=seconds * 1000)

    async def live(self) -> None:
        await self.until(LIVE)

    async def ask(self, text: str) -> None:
        await self.page.fill("#words", text)
        await self.page.press("#words", "Enter")

    async def answered(self, clips: int = 1) -> None:
        """Until so many clips are in the transcript."""
        await self.until(f"document.querySelectorAll('#log button').length >= {clips}")

    async def notice(self) -> str:
        await self.shown("#notice")
        return await self.page.inner_text("#notice p")

    async def seen(self) -> list[list[int]]:
        """Pictures that were shown, in milliseconds of the stream, by load of the page; see SEEN."""
        loads: list[list[int]] = await self.page.evaluate("loads()")
        return loads


@asynccontextmanager
async def chromium(*args: str, **context: Any) -> AsyncIterator[Any]:
    """A context of a new browser; `await context.new_page()`."""
    async with async_playwright() as driver:
        program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = await driver.chromium.launch(executable_path=program, args=[*ARGS, *args])
        try:
            yield await browser.new_context(**context)
        finally:
            await browser.close()


@asynccontextmanager
async def tab(url: str, *args: str, script: str = SEEN, **context: Any) -> AsyncIterator[Tab]:
    """A page of its own in a browser of its own; `script` runs before its own. At its end it must have had no script
    error.
    """
    async with chromium(*(args or (ALLOWED,)), **context) as browser:
        one = Tab(await browser.new_page())
        one.watch_requests(url)
        await one.page.add_init_script(script)
        await one.page.goto(url)
        yield one
        assert await one.page.evaluate("sessionStorage['test.faults'] || ''") == ""
        assert one.complaints == [], one.complaints
        assert one.foreign == [], one.foreign
