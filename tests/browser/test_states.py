"""What people with a screen reader, a phone or tired eyes meet, in every state of the page, by axe-core's rules."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.page_actions import SCRIPT, states
from tests.browser.stack import Line, Services, tab

LOOKS = [("light", 1280, 800), ("dark", 390, 844)]


@pytest.fixture
def face(services: Services, portrait: Path) -> None:
    """At least one is ready."""
    with httpx.Client(base_url=services.url, timeout=60) as http:
        if not http.get("/v1/avatars").json()["avatars"]:
            job = http.post("/v1/avatars", files={"file": (portrait.name, portrait.read_bytes())}).json()["job_id"]
            http.get(f"/v1/avatars/{job}/events")  # ends when it is made


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize(("scheme", "width", "height"), LOOKS)
async def test_no_state_shuts_anybody_out(services: Services, scheme: str, width: int, height: int) -> None:
    wrong, seen = {}, []
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
    async with Line(services.config.gateway.listen) as line, tab(line.url, script=SCRIPT, **look) as one:
        async for name in states(one, line):
            found = (await Axe().run(one.page)).response["violations"]
            wrong |= {f"{name}: {rule['id']}": [node["html"] for node in rule["nodes"]] for rule in found}
            if await one.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong[f"{name}: wider than the window"] = []
            seen.append(name)
    assert wrong == {}
    assert len(set(seen)) == len(seen) > 15
