"""Benchmark of the talk page in a real Chromium against real services on loopback: python -m benchmarks.page

    python -m benchmarks.page [--colds 3] [--turns 20] [--chromium /usr/bin/chromium]

A turn lasts from Enter in the text field to the first frame of the spoken answer on the screen: the browser's display
time of the first video frame at or after the stream position where the answer starts, the first rendered frame and not
an idle one. The embedded voice speaks, the built-in bot answers. A cold turn is the first turn of a freshly started
stack, asked as soon as the page is live. In the following turns the page is reloaded or the connection dropped, before
and during the answer.

A stall is a period of 100 ms or more in which the player stands still after the first frame of a load. Repeats are
fragments that one load of the page received twice or that differ between loads, and frames shown after later frames.
The plain figures are for the same page without MediaSource, which plays live.mp4.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Playwright, async_playwright

from benchmarks import card, inputs
from warmtalk.cli.addresses import isolated_config
from warmtalk.cli.supervisor import Supervisor
from warmtalk.config_loader import load

_SCRIPT = Path(__file__).with_name("page_watch.js").read_text("utf-8")
_WITHOUT_MEDIA_SOURCE = "; delete window.MediaSource"
_PLAIN_TURNS = 3
_ARGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
_LIVE = "document.querySelector('#state')?.textContent === 'Live'"
_QUESTION = "I like the rain in spring."
_DISTURBANCES = ("", "early drop", "", "late drop", "", "late reload", "", "early reload")
_PAUSE_S = 0.7
_TIMEOUT_S = 30.0
_FRAME_S = 0.04

Rows = list[tuple[str, float, str]]


@dataclass(frozen=True, slots=True)
class WatchedPage:
    """Records of page_watch.js, one object per load of the page. Times in ms."""

    loads: list[dict[str, Any]]

    def all(self, name: str) -> list[Any]:
        """Returns the records called `name` from all loads, in order."""
        return [record for one in self.loads for record in one[name]]

    def answers(self) -> list[tuple[float, float]]:
        """Returns for each turn (ms from Enter to the `started` event, ms from Enter to the first frame)."""
        events: dict[float, float] = {}  # a reconnecting player receives the event again
        for received, start_s in self.all("started"):
            events.setdefault(start_s, received)
        answers = []
        for entered, (start_s, received) in zip(self.all("entered"), events.items(), strict=True):
            shown = next(at for at, second in self.all("frames") if second > start_s - _FRAME_S / 4 and at > entered)
            answers.append((received - entered, shown - entered))
        return answers

    @property
    def opened_ms(self) -> float:
        """Period from the first opening of the page to the first frame."""
        period: float = self.loads[0]["frames"][0][0] - self.loads[0]["opened"]
        return period

    @property
    def repeats(self) -> int:
        """Number of repeated or changed fragments, and of frames shown after later frames."""
        first: dict[int, list[int]] = {}
        count, last_s = 0, 0.0
        for fragments in (one["fragments"] for one in self.loads):
            numbers = [fragment[0] for fragment in fragments]
            count += len(numbers) - len(set(numbers))
            count += sum(first.setdefault(fragment[0], fragment) != fragment for fragment in fragments)
        for _, second in self.all("frames"):
            count += second < last_s - 1.5 * _FRAME_S  # a frame may be shown a little before the player's clock says so
            last_s = max(last_s, second)
        return count

    @property
    def lost(self) -> int:
        """Number of fragments that never arrived although later fragments did."""
        numbers: set[int] = {fragment[0] for fragment in self.all("fragments")}
        return max(numbers) - len(numbers)


async def measure(colds: int, turns: int, chromium: str) -> Rows:
    """Returns the rows of the card, after `colds` starts of the stack and `turns` turns on the last."""
    cold: list[WatchedPage] = []
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        await asyncio.to_thread(inputs.build_bundle, data_dir)
        config, environ = isolated_config(load(), data_dir)
        url = f"http://{config.gateway.listen}/"
        async with async_playwright() as driver:
            for number in range(colds):
                async with Supervisor(config, environ=environ, logs=Path(folder)), _page(driver, chromium, url) as page:
                    await _turn(page, 1)
                    if number == colds - 1:
                        await _turns(page, turns)
                    cold.append(WatchedPage(await page.evaluate("loads()")))
            async with (
                Supervisor(config, environ=environ, logs=Path(folder)),
                _page(driver, chromium, url, _WITHOUT_MEDIA_SOURCE) as page,
            ):
                for number in range(_PLAIN_TURNS):
                    await _turn(page, number + 1)
                plain = WatchedPage(await page.evaluate("loads()"))
    return _rows(cold, turns) + _plain_rows(plain)


@asynccontextmanager
async def _page(driver: Playwright, chromium: str, url: str, script: str = "") -> AsyncIterator[Page]:
    """Opens the page in a new browser and yields once the page is live. `script` runs before the page's scripts."""
    browser = await driver.chromium.launch(executable_path=chromium, args=_ARGS)
    try:
        page = await browser.new_page()
        await page.add_init_script(_SCRIPT + script)
        await page.goto(url)
        await _wait_until(page, _LIVE)
        yield page
    finally:
        await browser.close()


async def _turns(page: Page, turns: int) -> None:
    """Takes the turns after a cold one, every second with a disturbance."""
    for number in range(turns):
        await _turn(page, number + 2, _DISTURBANCES[number % len(_DISTURBANCES)])


async def _turn(page: Page, clips: int, disturbance: str = "") -> None:
    """Asks a question and returns when the transcript has `clips` clips."""
    await page.fill("#words", _QUESTION)
    await page.press("#words", "Enter")
    if disturbance:
        when, _, kind = disturbance.partition(" ")
        if when == "late":
            await _wait_until(page, "document.querySelector('#log .soft')")
            await asyncio.sleep(1.0)
        await (page.reload() if kind == "reload" else page.evaluate("hangUp()"))
    await _wait_until(page, f"document.querySelectorAll('#log button').length >= {clips}")
    await asyncio.sleep(_PAUSE_S)


async def _wait_until(page: Page, script: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not await page.evaluate(script):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{script}: {await page.inner_text('body')}")
        await asyncio.sleep(0.1)


def _rows(cold: list[WatchedPage], turns: int) -> Rows:
    last = cold[-1]
    answers = last.answers()[1:] or last.answers()
    shown = [ms for _, ms in answers]
    stalls = [ms for page in cold for _, ms in page.all("stalls")]
    waits = sum(one["waiting"] for page in cold for one in page.loads)
    return [
        (
            "enter_to_picture_ms_cold",
            max(page.answers()[0][1] for page in cold),
            f"ms, worst of {len(cold)} (target 1000)",
        ),
        (
            "enter_to_picture_ms",
            statistics.median(shown),
            "ms from Enter to the first frame of the answer (target 1000)",
        ),
        ("enter_to_picture_ms_worst", max(shown), "ms, including turns with a lost connection"),
        (
            "enter_to_event_ms_cold",
            max(page.answers()[0][0] for page in cold),
            "ms of it until the page receives the start of speech",
        ),
        (
            "enter_to_event_ms",
            statistics.median(ms for ms, _ in answers),
            "ms of it until the page receives the start of speech",
        ),
        (
            "open_to_picture_ms_cold",
            max(page.opened_ms for page in cold),
            "ms from opening the page to its first frame",
        ),
        ("turns", turns, "turns after the first"),
        ("loads", len(last.loads), "loads of the page during the turns"),
        ("stalls", len(stalls), "stalls of the player of 100 ms or more (target 0)"),
        ("stall_ms", sum(stalls), "ms of all stalls"),
        ("waits", waits, "waiting events of the player"),
        ("repeats", sum(page.repeats for page in cold), "repeated fragments or frames (target 0)"),
        ("lost", sum(page.lost for page in cold), "fragments that never arrived (target 0)"),
    ]


def _plain_rows(plain: WatchedPage) -> Rows:
    stalls = [ms for _, ms in plain.all("stalls")]
    shown = statistics.median(ms for _, ms in plain.answers())
    return [
        ("plain_open_to_picture_ms", plain.opened_ms, "ms from opening the page to its first frame, live.mp4"),
        ("plain_enter_to_picture_ms", shown, "ms from Enter to the first frame of the answer, live.mp4"),
        ("plain_stalls", len(stalls), "stalls of 100 ms or more, live.mp4"),
        ("plain_stall_ms", sum(stalls), "ms of all stalls, live.mp4"),
    ]


def main() -> None:
    """Runs the benchmark and prints the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--colds", type=int, default=3, help="number of stack starts, each for one cold turn")
    parser.add_argument("--turns", type=int, default=20, help="number of turns after the last cold one")
    parser.add_argument(
        "--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"), help="path of the browser"
    )
    args = parser.parse_args()
    card.print_card("talk page", asyncio.run(measure(args.colds, args.turns, args.chromium)))


if __name__ == "__main__":
    main()
