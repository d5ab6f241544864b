"""python -m benchmarks.page: the talk page in a real Chromium against real services on loopback, as its user sees it.

    python -m benchmarks.page [--colds 3] [--turns 20] [--chromium /usr/bin/chromium]

A turn goes from Enter in the text field to the first picture of the spoken answer on the screen: the browser's display
time of the first video frame at or after the place in the stream where the answer begins, which is its first drawn
picture, not an idle one. The embedded voice speaks, the built-in partner answers. Cold is the first turn of a stack
that was just started, asked as soon as the page is live. In the turns after it the page is loaded again or its
connection dropped, before and while the answer is spoken.

A stall is 100 ms or more in which the player stands, from the first picture of a load on. Repeats are fragments that a
load of the page got twice or that were not the same the second time, and pictures shown after later ones. The plain
figures are of the same page without MediaSource, which plays live.mp4.
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
_PLAIN = "; delete window.MediaSource"
_PLAIN_TURNS = 3
_ARGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
_LIVE = "document.querySelector('#state')?.textContent === 'Live'"
_SAID = "I like the rain in spring."
_TROUBLES = ("", "early drop", "", "late drop", "", "late reload", "", "early reload")
_PAUSE_S = 0.7
_PATIENCE_S = 30.0
_PICTURE_S = 0.04

Rows = list[tuple[str, float, str]]


@dataclass(frozen=True, slots=True)
class WatchedPage:
    """What page_watch.js noted, load after load of the page."""

    loads: list[dict[str, Any]]

    def all(self, name: str) -> list[Any]:
        return [one for load in self.loads for one in load[name]]

    def answers(self) -> list[tuple[float, float]]:
        """Of each turn, ms from Enter until the page was told that the speech begins, and to its first picture."""
        begins: dict[float, float] = {}  # a player that comes back is told again
        for told, start_s in self.all("started"):
            begins.setdefault(start_s, told)
        found = []
        for entered, (start_s, told) in zip(self.all("entered"), begins.items(), strict=True):
            shown = next(
                at for at, second in self.all("pictures") if second > start_s - _PICTURE_S / 4 and at > entered
            )
            found.append((told - entered, shown - entered))
        return found

    @property
    def opened_ms(self) -> float:
        """From the first opening of the page to its first picture."""
        first: float = self.loads[0]["pictures"][0][0] - self.loads[0]["opened"]
        return first

    @property
    def repeats(self) -> int:
        first: dict[int, list[int]] = {}
        count, last_s = 0, 0.0
        for fragments in (one["fragments"] for one in self.loads):
            numbers = [one[0] for one in fragments]
            count += len(numbers) - len(set(numbers))
            count += sum(first.setdefault(one[0], one) != one for one in fragments)
        for _, second in self.all("pictures"):
            count += second < last_s - 1.5 * _PICTURE_S  # one may be seen a little before the player's clock says so
            last_s = max(last_s, second)
        return count

    @property
    def lost(self) -> int:
        """Fragments that never came, though later ones did."""
        numbers: set[int] = {one[0] for one in self.all("fragments")}
        return max(numbers) - len(numbers)


async def measure(colds: int, turns: int, chromium: str) -> Rows:
    cold: list[WatchedPage] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        await asyncio.to_thread(inputs.build_bundle, place)
        config, environ = isolated_config(load(), place)
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
                _page(driver, chromium, url, _PLAIN) as page,
            ):
                for number in range(_PLAIN_TURNS):
                    await _turn(page, number + 1)
                plain = WatchedPage(await page.evaluate("loads()"))
    return _rows(cold, turns) + _plain_rows(plain)


@asynccontextmanager
async def _page(driver: Playwright, chromium: str, url: str, script: str = "") -> AsyncIterator[Page]:
    """A new browser with the page, which is live. The script runs before its own."""
    browser = await driver.chromium.launch(executable_path=chromium, args=_ARGS)
    try:
        page = await browser.new_page()
        await page.add_init_script(_SCRIPT + script)
        await page.goto(url)
        await _until(page, _LIVE)
        yield page
    finally:
        await browser.close()


async def _turns(page: Page, turns: int) -> None:
    """With a trouble in every second one."""
    for number in range(turns):
        await _turn(page, number + 2, _TROUBLES[number % len(_TROUBLES)])


async def _turn(page: Page, clips: int, trouble: str = "") -> None:
    """Until there are so many answers in the transcript."""
    await page.fill("#words", _SAID)
    await page.press("#words", "Enter")
    if trouble:
        when, _, what = trouble.partition(" ")
        if when == "late":
            await _until(page, "document.querySelector('#log .soft')")
            await asyncio.sleep(1.0)
        await (page.reload() if what == "reload" else page.evaluate("hangUp()"))
    await _until(page, f"document.querySelectorAll('#log button').length >= {clips}")
    await asyncio.sleep(_PAUSE_S)


async def _until(page: Page, script: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not await page.evaluate(script):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{script}: {await page.inner_text('body')}")
        await asyncio.sleep(0.1)


def _rows(cold: list[WatchedPage], turns: int) -> Rows:
    last = cold[-1]
    answers = last.answers()[1:] or last.answers()
    shown = [ms for _, ms in answers]
    stalls = [ms for one in cold for _, ms in one.all("stalls")]
    return [
        (
            "enter_to_picture_ms_cold",
            max(one.answers()[0][1] for one in cold),
            f"ms, worst of {len(cold)} (target 1000)",
        ),
        (
            "enter_to_picture_ms",
            statistics.median(shown),
            "ms from Enter to the first picture of the answer (target 1000)",
        ),
        ("enter_to_picture_ms_worst", max(shown), "ms, those with a lost connection included"),
        (
            "enter_to_event_ms_cold",
            max(one.answers()[0][0] for one in cold),
            "ms of it until the page hears that speech begins",
        ),
        (
            "enter_to_event_ms",
            statistics.median(ms for ms, _ in answers),
            "ms of it until the page hears that speech begins",
        ),
        (
            "open_to_picture_ms_cold",
            max(one.opened_ms for one in cold),
            "ms from opening the page to its first picture",
        ),
        ("turns", turns, "turns after the first"),
        ("loads", len(last.loads), "times that the page was loaded in them"),
        ("stalls", len(stalls), "times that the player stood for 100 ms or more (target 0)"),
        ("stall_ms", sum(stalls), "ms that it stood"),
        (
            "waits",
            sum(one["waiting"] for watched in cold for one in watched.loads),
            "times that the player said it waits",
        ),
        ("repeats", sum(one.repeats for one in cold), "fragments or pictures that came again (target 0)"),
        ("lost", sum(one.lost for one in cold), "fragments that never came (target 0)"),
    ]


def _plain_rows(plain: WatchedPage) -> Rows:
    stalls = [ms for _, ms in plain.all("stalls")]
    shown = statistics.median(ms for _, ms in plain.answers())
    return [
        ("plain_open_to_picture_ms", plain.opened_ms, "ms from opening the page to its first picture, live.mp4"),
        ("plain_enter_to_picture_ms", shown, "ms from Enter to the first picture of the answer, live.mp4"),
        ("plain_stalls", len(stalls), "times that it stood for 100 ms or more"),
        ("plain_stall_ms", sum(stalls), "ms that it stood"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--colds", type=int, default=3, help="how often the stack is started for a cold turn")
    parser.add_argument("--turns", type=int, default=20, help="turns after the last of them")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM", "/usr/bin/chromium"), help="its program")
    args = parser.parse_args()
    card.print_card("talk page", asyncio.run(measure(args.colds, args.turns, args.chromium)))


if __name__ == "__main__":
    main()
