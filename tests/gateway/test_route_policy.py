"""Route policies: every route states its access, and the policy of a request is found by method and path."""

from __future__ import annotations

import pytest

from warmtalk.config import Config
from warmtalk.services.gateway.app import create_app
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.route_policy import MAX_JSON_BYTES, NO_ROUTE, Access, PolicyRouter, find_policy


async def endpoint() -> None:
    """Never called."""


@pytest.fixture
def router() -> PolicyRouter:
    one = PolicyRouter()
    one.add("GET", "/", endpoint, Access.OPEN, linkable=True)
    one.add("GET", "/things", endpoint, Access.PAGE)
    one.add("POST", "/things", endpoint, Access.KEY, max_body_bytes=1 << 20)
    one.add("GET", "/things/{thing}.mp4", endpoint, Access.SESSION)
    one.add_websocket("/things/{thing}/live", endpoint, Access.SESSION)
    return one


@pytest.mark.parametrize(
    ("method", "path", "access", "max_body_bytes"),
    [
        ("GET", "/things", Access.PAGE, MAX_JSON_BYTES),
        ("HEAD", "/things", Access.PAGE, MAX_JSON_BYTES),
        ("POST", "/things", Access.KEY, 1 << 20),
        ("GET", "/things/a.mp4", Access.SESSION, MAX_JSON_BYTES),
        ("GET", "/things/a/live", Access.SESSION, MAX_JSON_BYTES),
        ("DELETE", "/", Access.OPEN, MAX_JSON_BYTES),
    ],
)
def test_the_policy_is_found_by_method_and_path(
    router: PolicyRouter, method: str, path: str, access: Access, max_body_bytes: int
) -> None:
    policy = find_policy(router.policies, method, path)
    assert (policy.access, policy.max_body_bytes) == (access, max_body_bytes)
    assert policy.linkable is (path == "/")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/things"), ("GET", "/things/"), ("GET", "/things/a/b.mp4"), ("GET", "/nowhere"), ("GET", "")],
)
def test_a_request_without_a_route_has_the_default_policy(router: PolicyRouter, method: str, path: str) -> None:
    assert find_policy(router.policies, method, path) is NO_ROUTE


async def test_every_documented_route_has_a_policy() -> None:
    config = Config()
    backend, chat = Backend(config), ChatClient(config.gateway)
    app = create_app(config, backend, LiveStreamRegistry(backend, chat), chat)
    policies = app.user_middleware[0].kwargs["policies"]
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            assert find_policy(policies, method.upper(), path.replace("{", "").replace("}", "")) is not NO_ROUTE
    await chat.close()
    await backend.close()
