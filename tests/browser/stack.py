"""The real services as child processes that tests kill and restart, and a real Chromium."""

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

from playwright.async_api import Page, Request, async_playwright

from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.supervisor import service_specs
from warmtalk.config import Config

ARGS = ["--no-sandbox", "--disable-gpu"]
AUTOPLAY = "--autoplay-policy=no-user-gesture-required"
MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
LIVE = "document.querySelector('#live').currentTime > 0.3 && document.querySelector('#state').textContent === 'Live'"

RECORD_FRAMES = Path(__file__).with_name("record_frames.js").read_text("utf-8")
"""Script that records shown frames and playback faults; see the file."""


class Services:
    """The four services on free ports, with data and logs in a folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.config, settings = isolated_config(Config(), folder / "data")
        self._own = environ or {}
        self._environ = {**os.environ, **settings, "WARMTALK_PREP_STILL_SECONDS": "1", **self._own}
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Address of the talk page."""
        return f"http://{self.config.gateway.listen}/"

    def point_at(self, other: Services) -> None:
        """Lets the gateway of this stack serve the services of another, at an address of its own."""
        listen = {"WARMTALK_GATEWAY_LISTEN": self._environ["WARMTALK_GATEWAY_LISTEN"]}
        self._environ = {**other._environ, **listen, **self._own}

    def start(self, *names: str) -> None:
        """Starts services and returns when all are ready."""
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
        """Kills a service without warning."""
        child = self._children.pop(name)
        child.kill()
        child.communicate()

    def stop(self) -> None:
        """Stops all services."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.communicate(timeout=20)


class NetworkLink:
    """TCP proxy between a browser and a gateway that can drop connections. For one event loop."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.down = False
        """True to refuse new connections."""

    async def __aenter__(self) -> NetworkLink:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop_connections()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_connections(self) -> None:
        """Aborts every connection without a TCP close. New connections work unless `down`."""
        for writer in self._writers:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        host, _, port = self._gateway
        gateway_reader, gateway_writer = await asyncio.open_connection(host, int(port))
        ends = {writer, gateway_writer}
        self._writers |= ends
        await asyncio.gather(_copy(reader, gateway_writer), _copy(gateway_reader, writer))
        for end in ends:
            end.close()
        self._writers -= ends
        self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class Tab:
    """A browser page with a record of its WebSocket media, script errors and requests to other sites."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.media: list[bytes] = []
        self.script_errors: list[str] = []
        self.foreign_requests: list[str] = []
        self._own = ""
        page.on("websocket", lambda socket: socket.on("framereceived", self._record_media))
        page.on("pageerror", lambda error: self.script_errors.append(str(error)))

    def _record_media(self, payload: bytes | str) -> None:
        if isinstance(payload, bytes):
            self.media.append(payload)

    def watch_requests(self, own: str) -> None:
        """Records requests to other addresses than `own`."""
        self._own = own
        self.page.on("request", self._record_request)

    def _record_request(self, request: Request) -> None:
        if not request.url.startswith((self._own, "blob:", "data:")):
            self.foreign_requests.append(request.url)

    async def until(self, script: str, seconds: float = 60) -> Any:
        """Waits until an expression is true and returns the value. The page's security policy forbids polling inside
        the page, so the test polls.
        """
        deadline = time.monotonic() + seconds
        while not (value := await self.page.evaluate(script)):
            assert time.monotonic() < deadline, f"{script}: {await self.page.inner_text('body')}"
            await asyncio.sleep(0.05)
        return value

    async def wait_visible(self, selector: str, seconds: float = 60) -> None:
        """Waits until an element is visible."""
        await self.page.wait_for_selector(f"{selector}:visible", timeout=seconds * 1000)

    async def wait_live(self) -> None:
        """Waits until the live video plays."""
        await self.until(LIVE)

    async def ask(self, text: str) -> None:
        """Types a text and presses Enter."""
        await self.page.fill("#words", text)
        await self.page.press("#words", "Enter")

    async def wait_clips(self, clips: int = 1) -> None:
        """Waits until the transcript has that many clips."""
        await self.until(f"document.querySelectorAll('#log button').length >= {clips}")

    async def wait_notice(self) -> str:
        """Waits for a notice and returns its text."""
        await self.wait_visible("#notice")
        return await self.page.inner_text("#notice p")

    async def shown_frames(self) -> list[list[int]]:
        """Returns the stream times of the frames shown, in ms, by load of the page; see RECORD_FRAMES."""
        loads: list[list[int]] = await self.page.evaluate("loads()")
        return loads


@asynccontextmanager
async def chromium(*args: str, **context: Any) -> AsyncIterator[Any]:
    """Starts a browser and yields a context of it; `await context.new_page()` opens a page."""
    async with async_playwright() as driver:
        program = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = await driver.chromium.launch(executable_path=program, args=[*ARGS, *args])
        try:
            yield await browser.new_context(**context)
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(url: str, *args: str, script: str = RECORD_FRAMES, **context: Any) -> AsyncIterator[Tab]:
    """Opens a page in a browser of its own; `script` runs before the page's scripts. Fails at the end if there was a
    script error, a playback fault or a request to another site.
    """
    async with chromium(*(args or (AUTOPLAY,)), **context) as browser:
        one = Tab(await browser.new_page())
        one.watch_requests(url)
        await one.page.add_init_script(script)
        await one.page.goto(url)
        yield one
        faults = await one.page.evaluate("sessionStorage['test.faults'] || ''")
        assert faults == "", faults
        assert one.script_errors == [], one.script_errors
        assert one.foreign_requests == [], one.foreign_requests
