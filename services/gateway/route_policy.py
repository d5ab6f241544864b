"""Access and body limit of routes: stated in the route's declaration, enforced by `AccessMiddleware`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from fastapi import APIRouter
from starlette.routing import compile_path

MAX_JSON_BYTES = 256 << 10
"""Default body limit: requests without an upload."""
FORM_OVERHEAD_BYTES = 64 << 10
"""Allowance for multipart boundaries and text fields around an uploaded file."""
SESSION_PATH = "/v1/sessions/{session_id}"
"""Path of a session. A page token opens the paths from here on down that state `Access.SESSION`."""


class Access(Enum):
    """Credentials needed once an API key is configured; without a configured key every route is open."""

    OPEN = "open"
    """None. Also covers other methods on the same path, so that the answer is 405 and not 401."""
    PAGE = "page"
    """The API key, or a page token of any session. Routes with a session in the body call `Caller.check_session`."""
    SESSION = "session"
    """The API key, or the page token of the session in the path."""
    KEY = "key"
    """The API key."""


@dataclass(frozen=True)
class RoutePolicy:
    """Access and body limit of one route."""

    method: str
    path: str
    access: Access
    max_body_bytes: int = MAX_JSON_BYTES
    linkable: bool = False
    """True for a document to which links on other sites may lead."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return compile_path(self.path)[0]

    def covers(self, method: str, path: str) -> bool:
        """Returns True if the policy holds for the request. HEAD is checked like GET."""
        methods = ("HEAD", "GET") if method == "HEAD" else (method,)
        return (self.access is Access.OPEN or self.method in methods) and self._pattern.match(path) is not None


NO_ROUTE = RoutePolicy("", "", Access.SESSION)
"""Policy of a request without a route, which is answered 404 or 405: callers without a right to the path get 401 or
403 instead.
"""


def find_policy(policies: Iterable[RoutePolicy], method: str, path: str) -> RoutePolicy:
    """Returns the policy of the route that will answer, or `NO_ROUTE`. WebSocket handshakes count as GET."""
    return next((policy for policy in policies if policy.covers(method, path)), NO_ROUTE)


class PolicyRouter(APIRouter):
    """Router whose routes are declared together with their policy."""

    def __init__(self, *tags: str | Enum) -> None:
        super().__init__(tags=list(tags))
        self.policies: list[RoutePolicy] = []

    def add(
        self,
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        access: Access,
        *,
        max_body_bytes: int = MAX_JSON_BYTES,
        linkable: bool = False,
        **options: Any,
    ) -> None:
        """Adds an HTTP route. `options` are passed to `add_api_route`."""
        self.policies.append(RoutePolicy(method, path, access, max_body_bytes, linkable))
        self.add_api_route(path, endpoint, methods=[method], **options)

    def add_websocket(self, path: str, endpoint: Callable[..., Any], access: Access) -> None:
        """Adds a WebSocket route."""
        self.policies.append(RoutePolicy("GET", path, access))
        self.add_api_websocket_route(path, endpoint)
