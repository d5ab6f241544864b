"""Accessibility of every state of the page by the rules of axe-core, on a desktop and on a dark phone screen."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.page_actions import SCRIPT, states
from tests.browser.stack import NetworkLink, Services, open_page

LOOKS = [("light", 1280, 800), ("dark", 390, 844)]


@pytest.fixture
def face(services: Services, portrait: Path) -> None:
    """Makes sure that at least one avatar is ready."""
    with httpx.Client(base_url=services.url, timeout=60) as http:
        if not http.get("/v1/avatars").json()["avatars"]:
            job = http.post("/v1/avatars", files={"file": (portrait.name, portrait.read_bytes())}).json()["job_id"]
            http.get(f"/v1/avatars/{job}/events")  # ends with the build


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize(("scheme", "width", "height"), LOOKS)
async def test_every_state_is_accessible(services: Services, scheme: str, width: int, height: int) -> None:
    violations, names = {}, []
    look = {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
    async with NetworkLink(services.config.gateway.listen) as link, open_page(link.url, script=SCRIPT, **look) as one:
        async for name in states(one, link):
            found = (await Axe().run(one.page)).response["violations"]
            violations |= {f"{name}: {rule['id']}": [node["html"] for node in rule["nodes"]] for rule in found}
            if await one.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                violations[f"{name}: wider than the window"] = []
            names.append(name)
    assert violations == {}
    assert len(set(names)) == len(names) > 15
