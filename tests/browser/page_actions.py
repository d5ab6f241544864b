"""Takes the page through all of its states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from playwright.async_api import Route

from tests.browser.stack import RECORD_FRAMES, NetworkLink, Tab

SCRIPT = RECORD_FRAMES + Path(__file__).with_name("refuse_playback.js").read_text("utf-8")
"""Script for pages that go through all states."""

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


async def states(tab: Tab, link: NetworkLink) -> AsyncIterator[str]:
    """Yields the name of each state while the page shows the state. Open `tab` with SCRIPT at the link's address."""
    async for name in _locked(tab, link.url):
        yield name
    async for name in _faces(tab, link.url):
        yield name
    async for name in _conversation(tab, link):
        yield name
    async for name in _failures(tab, link):
        yield name


async def _locked(tab: Tab, url: str) -> AsyncIterator[str]:
    page = tab.page
    await page.route("**/v1/config", lambda route: route.fulfill(json={"key": True, "max_upload_mb": 500}))
    await page.goto(f"{url}page.css")  # leaves a page that may be about to store its session
    await page.evaluate("sessionStorage.clear()")
    await page.goto(url)
    await tab.wait_visible("#unlock")
    yield "locked"
    problem = {"status": 401, "title": "x", "detail": "the key is wrong", "reason": "UNAUTHENTICATED"}
    await page.route("**/v1/token", lambda route: route.fulfill(status=401, json=problem))
    await page.fill("#key", "wrong")
    await page.press("#key", "Enter")
    await tab.wait_notice()
    yield "wrong key"
    await page.unroute_all()


async def _faces(tab: Tab, url: str) -> AsyncIterator[str]:
    page, faces, job = tab.page, [], {"status": "processing", "stage": "finding faces", "progress": 0.4, "error": ""}
    uploaded = asyncio.Event()

    async def upload(route: Route) -> None:
        if route.request.method == "GET":
            await route.fulfill(json={"avatars": faces})
            return
        await uploaded.wait()
        await route.fulfill(status=202, json={"job_id": "photo"})

    await page.route("**/v1/config", lambda route: route.abort())
    await page.goto(url)
    await tab.wait_notice()
    yield "no server"
    await page.unroute_all()
    await page.route("**/v1/avatars*", upload)
    await page.route("**/v1/status/photo", lambda route: route.fulfill(json=job))
    await page.goto(url)
    await tab.wait_visible("#setup")
    yield "no face"
    faces += _FACES
    await page.goto(url)
    await tab.wait_visible("#faces button")
    yield "faces"
    await page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"x" * 100_000})
    await tab.wait_visible("#making")
    yield "uploading"
    uploaded.set()
    await tab.until("document.querySelector('#making-text').textContent.startsWith('Making')")
    yield "making"
    job.update(_FAILED)
    await tab.wait_notice()
    await tab.wait_visible("#drop")
    yield "making failed"
    await page.unroute_all()


async def _conversation(tab: Tab, link: NetworkLink) -> AsyncIterator[str]:
    page = tab.page
    await page.goto(link.url)
    if (
        await tab.until("document.querySelector('#talk').hidden ? document.querySelectorAll('#faces li').length : 1")
        > 1
    ):
        await page.click("#faces button")  # a single face is chosen automatically
    await tab.wait_live()
    yield "live"
    await tab.ask("I like rain in the spring.")
    await tab.until("!document.querySelector('#stop').disabled && document.querySelector('#log .soft')")
    yield "speaking"
    await tab.wait_clips()
    await page.fill(
        "#words", "A longer text that goes over more than one line of the field, so that it must grow with it."
    )
    yield "answered"
    await page.click("#log button")
    await tab.until("document.querySelector('#record').currentTime > 0.3")
    yield "recorded"
    await page.click("#back")
    await page.click("#reset")
    await tab.wait_visible("#confirm")
    yield "start over?"
    await page.keyboard.press("Escape")
    await page.click("#change")
    await tab.wait_visible("#setup-back")
    yield "change face"
    await page.click("#setup-back")


async def _failures(tab: Tab, link: NetworkLink) -> AsyncIterator[str]:
    page = tab.page
    await page.evaluate(_NO_MICROPHONE)
    await page.click("#hold")
    await tab.wait_notice()
    yield "no microphone"
    for refused in ("sound", "all"):
        await page.evaluate(f"sessionStorage['test.refused'] = '{refused}'")
        await page.reload()
        await tab.wait_visible("#sound" if refused == "sound" else "#start")
        yield f"refused: {refused}"
    await page.evaluate("sessionStorage['test.refused'] = ''")
    await page.reload()
    await tab.wait_live()
    link.down = True
    link.drop_connections()
    await tab.wait_notice()
    yield "connection lost"
    link.down = False
    await tab.until("document.querySelector('#notice').hidden")
