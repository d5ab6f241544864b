"""The real services as child processes, each to be killed and brought back, and a real Chromium."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
from playwright.async_api import Page, async_playwright

from warmtalk.cli.stack import own_place, programs
from warmtalk.config import Config

ARGS = ["--no-sandbox", "--disable-gpu"]
ALLOWED = "--autoplay-policy=no-user-gesture-required"
MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
LIVE = "document.querySelector('#live').currentTime > 0.3 && document.querySelector('#state').textContent === 'Live'"


class Services:
    """All four, on free ports, in a folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.config, settings = own_place(Config(), folder / "data")
        self._environ = {**os.environ, **settings, "WARMTALK_PREP_STILL_SECONDS": "1", **(environ or {})}
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://{self.config.gateway.listen}/"

    def point_at(self, other: Services) -> None:
        """Its gateway serves the services of the other, on an address of its own."""
        place = self._environ["WARMTALK_GATEWAY_LISTEN"]
        mine = self._environ["WARMTALK_API_KEY"]
        self._environ = {**other._environ, "WARMTALK_GATEWAY_LISTEN": place, "WARMTALK_API_KEY": mine}

    def start(self, *names: str) -> None:
        """Until they are ready."""
        for name in names:
            with open(self._folder / f"{name}.log", "ab") as log:
                self._children[name] = subprocess.Popen(
                    [sys.executable, "-m", f"services.{name}"], env=self._environ, stdout=log, stderr=log
                )
        for program in programs(self.config):
            if program.name in names:
                asyncio.run(program.wait_ready(60))

    def kill(self, name: str) -> None:
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def stop(self) -> None:
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.wait(20)


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

    async def until(self, script: str, seconds: float = 30) -> Any:
        """Waits for an expression to be true; the page's security policy allows no polling inside it."""
        deadline = time.monotonic() + seconds
        while not (value := await self.page.evaluate(script)):
            assert time.monotonic() < deadline, f"{script}: {await self.page.inner_text('body')}"
            await asyncio.sleep(0.05)
        return value

    async def shown(self, selector: str, seconds: float = 30) -> None:
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

    def times(self) -> list[float]:
        """Of the pictures that came over the socket."""
        with av.open(io.BytesIO(b"".join(self.media))) as file:
            return [float(frame.time or 0) for frame in file.decode(video=0)]


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
async def tab(url: str, *args: str, **context: Any) -> AsyncIterator[Tab]:
    """A page of its own in a browser of its own. At its end it must have had no script error."""
    async with chromium(*(args or (ALLOWED,)), **context) as browser:
        one = Tab(await browser.new_page())
        one.watch_requests(url)
        await one.page.goto(url)
        yield one
        assert one.complaints == []
        assert one.foreign == []
