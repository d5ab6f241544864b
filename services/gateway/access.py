"""Who may ask for what, checked before any route: the site, the key or token, the size."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmtalk.config import Config
from warmtalk.core.errors import Unauthenticated, WarmtalkError
from warmtalk.rpc.auth import keys_match, presented_keys
from warmtalk.services.gateway import problems
from warmtalk.services.gateway.problems import Forbidden, TooLarge
from warmtalk.services.gateway.tokens import Token, Tokens

_OPEN = {"/", "/page.js", "/page.css", "/health", "/v1/health/live", "/v1/health/ready"}
"""Without a key: the page's three files, which hold no secret, and what a container's health check asks."""
_PAGES = {"/", "/docs"}
"""Where a link on another site may lead."""
_BY_TOKEN = re.compile(r"(GET|HEAD) /v1/(avatars|avatars/[^/]+|avatars/[^/]+/events|status/[^/]+|config)|"
                       r"POST /v1/(avatars|sessions|speak|token|transcriptions)")  # fmt: skip
"""Besides its own session. POSTs with a session in their body ask `Caller.check`."""
_SILENCE_S = 30.0
"""A body that does not go on for so long is given up: its sender is gone, or means no good."""
_LOCAL = {"127.0.0.1", "localhost", "[::1]", "::1"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the holder of the key (or anybody, when none is configured), or a page with its token."""

    token: Token | None = None

    def check(self, session_id: str) -> None:
        """Raises Forbidden for a session that is not the token's."""
        if self.token is not None and self.token.session_id != session_id:
            raise Forbidden("this token is for another session", "Ask for a token of this session: POST /v1/token")


def caller_of(request: Request) -> Caller:
    """For Depends()."""
    found: Caller = request.scope["warmtalk.caller"]
    return found


class AccessMiddleware:
    """ASGI middleware for requests and WebSockets."""

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        tokens: Tokens,
        limit: Callable[[str, str], int],
    ) -> None:
        """`limit` is the most bytes of a body by method and path."""
        self._app = app
        self._key = config.api_key
        self._origins = {one.strip().rstrip("/") for one in config.gateway.allowed_origins.split(",") if one.strip()}
        self._hosts = _LOCAL | {urlsplit(one).hostname or "" for one in self._origins}
        self._tokens = tokens
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_site(scope, headers)
            scope["warmtalk.caller"] = self._caller(scope, headers)
            if scope["type"] == "http":
                receive = _limited(receive, headers, self._limit(scope["method"], scope["path"]))
        except WarmtalkError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_site(self, scope: Scope, headers: Headers) -> None:
        """A browser says where a request comes from; what is no browser sends neither header."""
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not self._key and urlsplit(f"//{host}").hostname not in self._hosts:
            # a page elsewhere whose name was pointed at this machine would be "same origin"
            raise Forbidden(f"this server is not {host[:80]!r}", "Use 127.0.0.1, or set gateway.allowed_origins")
        if origin:
            if urlsplit(origin).netloc != host and not self._origins & {origin, "*"}:
                raise Forbidden(f"pages of {origin[:80]} may not call", "Add it to gateway.allowed_origins")
        elif headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["path"] not in _PAGES:
            raise Forbidden("another site's page may not load this", "Add it to gateway.allowed_origins")

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        if not self._key or scope["path"] in _OPEN or scope.get("method") == "OPTIONS":
            return Caller()
        given = presented_keys(headers.items())
        if any(keys_match(one, self._key) for one in given):
            return Caller()
        given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])  # <video> can send no header
        for one in filter(None, given):
            if token := self._tokens.read(one, time.time()):
                return _within(token, scope)
        if any(given):
            raise Unauthenticated("the key or token is wrong, or the token is too old", "Ask for a new one")
        raise Unauthenticated("this needs the API key", "Send it as X-Internal-API-Key or Authorization: Bearer")


def _within(token: Token, scope: Scope) -> Caller:
    method, path = scope.get("method", "GET"), scope["path"]
    own = f"/v1/sessions/{token.session_id}"
    if path == own or path.startswith(own + "/") or _BY_TOKEN.fullmatch(f"{method} {path}"):
        return Caller(token)
    raise Forbidden("a page's token does not open this", "Use the API key")


def _limited(receive: Receive, headers: Headers, most: int) -> Receive:
    """Raises TooLarge at once when the length is announced; else the body breaks off with 413, or with 408 when it does
    not go on.
    """
    words = f"the body is larger than {most >> 10} KiB"
    whole = False
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise TooLarge(words, "Send less")
    taken = 0

    async def counted() -> Message:
        nonlocal taken, whole
        try:
            async with asyncio.timeout(None if whole else _SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise HTTPException(TOO_SLOW, f"nothing of the body came for {_SILENCE_S:g} s") from None
        taken += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if taken > most:
            raise HTTPException(TOO_LARGE, words)
        return message

    return counted


TOO_LARGE, TOO_SLOW = 413, 408


async def _refuse(error: WarmtalkError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await problems.answer(error)(scope, receive, send)
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
