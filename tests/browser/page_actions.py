"""Leads the page through everything that it can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Route

from tests.browser.stack import SEEN, Line, Tab

SCRIPT = (
    SEEN
    + """;(() => {
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    const refused = sessionStorage['test.refused'];
    const no = refused === 'all' || refused === 'sound' && !this.muted;
    return no ? Promise.reject(new DOMException('', 'NotAllowedError')) : play.call(this);
  };
})()"""
)
"""Also refuses to play, as browsers do: sessionStorage['test.refused'] is "sound" or "all"."""

_FACES: list[dict[str, Any]] = [
    {"avatar_id": "anna", "state": "ready", "summary": "250 of 250 frames usable", "width": 1280, "height": 720},
    {
        "avatar_id": "bert-with-quite-a-long-name-of-his-own",
        "state": "ready",
        "summary": "",
        "width": 704,
        "height": 1216,
    },
    {"avatar_id": "carl", "state": "creating", "summary": "", "width": 0, "height": 0},
    {
        "avatar_id": "dora",
        "state": "failed",
        "error": "no usable face in dora.mp4",
        "summary": "",
        "width": 0,
        "height": 0,
    },
]
_FAILED = {
    "status": "failed",
    "error": "no usable face in photo.png: turn or cut the footage",
    "stage": "",
    "progress": 0,
}
_NO_MICROPHONE = """void (
  navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))
)"""


async def states(one: Tab, line: Line) -> AsyncIterator[str]:
    """The name of each, in which the page then is. The tab was opened with SCRIPT, at the line's address."""
    async for name in _locked(one, line.url):
        yield name
    async for name in _faces(one, line.url):
        yield name
    async for name in _talk(one, line):
        yield name
    async for name in _trouble(one, line):
        yield name


async def _locked(one: Tab, url: str) -> AsyncIterator[str]:
    page = one.page
    await page.route("**/v1/config", lambda route: route.fulfill(json={"key": True, "max_upload_mb": 500}))
    await page.goto(f"{url}page.css")  # away from a page that may be about to remember its session
    await page.evaluate("sessionStorage.clear()")
    await page.goto(url)
    await one.shown("#unlock")
    yield "locked"
    problem = {"status": 401, "title": "x", "detail": "the key is wrong", "reason": "UNAUTHENTICATED"}
    await page.route("**/v1/token", lambda route: route.fulfill(status=401, json=problem))
    await page.fill("#key", "wrong")
    await page.press("#key", "Enter")
    await one.notice()
    yield "wrong key"
    await page.unroute_all()


async def _faces(one: Tab, url: str) -> AsyncIterator[str]:
    page, faces, job = one.page, [], {"status": "processing", "stage": "finding faces", "progress": 0.4, "error": ""}
    uploaded = asyncio.Event()

    async def upload(route: Route) -> None:
        if route.request.method == "GET":
            await route.fulfill(json={"avatars": faces})
            return
        await uploaded.wait()
        await route.fulfill(status=202, json={"job_id": "photo"})

    await page.route("**/v1/config", lambda route: route.abort())
    await page.goto(url)
    await one.notice()
    yield "no server"
    await page.unroute_all()
    await page.route("**/v1/avatars*", upload)
    await page.route("**/v1/status/photo", lambda route: route.fulfill(json=job))
    await page.goto(url)
    await one.shown("#setup")
    yield "no face"
    faces += _FACES
    await page.goto(url)
    await one.shown("#faces button")
    yield "faces"
    await page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"x" * 100_000})
    await one.shown("#making")
    yield "uploading"
    uploaded.set()
    await one.until("document.querySelector('#making-text').textContent.startsWith('Making')")
    yield "making"
    job.update(_FAILED)
    await one.notice()
    await one.shown("#drop")
    yield "making failed"
    await page.unroute_all()


async def _talk(one: Tab, line: Line) -> AsyncIterator[str]:
    page = one.page
    await page.goto(line.url)
    if (
        await one.until("document.querySelector('#talk').hidden ? document.querySelectorAll('#faces li').length : 1")
        > 1
    ):
        await page.click("#faces button")  # a single face begins by itself
    await one.live()
    yield "live"
    await one.ask("I like rain in the spring.")
    await one.until("!document.querySelector('#stop').disabled && document.querySelector('#log .soft')")
    yield "speaking"
    await one.answered()
    await page.fill(
        "#words", "A longer text that goes over more than one line of the field, so that it must grow with it."
    )
    yield "answered"
    await page.click("#log button")
    await one.until("document.querySelector('#record').currentTime > 0.3")
    yield "recorded"
    await page.click("#back")
    await page.click("#reset")
    await one.shown("#confirm")
    yield "start over?"
    await page.keyboard.press("Escape")
    await page.click("#change")
    await one.shown("#setup-back")
    yield "change face"
    await page.click("#setup-back")


async def _trouble(one: Tab, line: Line) -> AsyncIterator[str]:
    page = one.page
    await page.evaluate(_NO_MICROPHONE)
    await page.click("#hold")
    await one.notice()
    yield "no microphone"
    for refused in ("sound", "all"):
        await page.evaluate(f"sessionStorage['test.refused'] = '{refused}'")
        await page.reload()
        await one.shown("#sound" if refused == "sound" else "#start")
        yield f"refused: {refused}"
    await page.evaluate("sessionStorage['test.refused'] = ''")
    await page.reload()
    await one.live()
    line.down = True
    line.cut()
    await one.notice()
    yield "connection lost"
    line.down = False
    await one.until("document.querySelector('#notice').hidden")
