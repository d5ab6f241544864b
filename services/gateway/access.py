"""ASGI middleware in front of every route: origin, API key or page token, body size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from warmtalk.config import Config
from warmtalk.core.errors import Unauthenticated, WarmtalkError
from warmtalk.rpc.auth import keys_match, presented_keys
from warmtalk.services.gateway import problems
from warmtalk.services.gateway.body_limit import limit_body
from warmtalk.services.gateway.problems import Forbidden
from warmtalk.services.gateway.route_policy import SESSION_PATH, Access, RoutePolicy, find_policy
from warmtalk.services.gateway.tokens import Token, Tokens

_LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "[::1]", "::1"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Sender of a request: the holder of the API key (anybody, if no key is configured), or a page with a token."""

    token: Token | None = None
    """The page token; None for the holder of the key."""

    def check_session(self, session_id: str) -> None:
        """Raises Forbidden for a session other than the token's."""
        if self.token is not None and self.token.session_id != session_id:
            raise Forbidden("this token is for another session", "Ask for a token of this session: POST /v1/token")


def caller_of(request: Request) -> Caller:
    """Returns the caller as found by the middleware, for use in Depends()."""
    caller: Caller = request.scope["warmtalk.caller"]
    return caller


class AccessMiddleware:
    """Checks HTTP requests and WebSocket handshakes against the policy of their route, before the body is read.

    Order of the checks: host and origin (403), key or token (401, 403), announced body length (413). A body without
    an announced length is counted while a route reads.
    """

    def __init__(self, app: ASGIApp, config: Config, tokens: Tokens, policies: Sequence[RoutePolicy]) -> None:
        self._app = app
        self._key = config.api_key
        self._origins = {origin.rstrip("/") for origin in allowed_origins(config)}
        self._hosts = _LOOPBACK_HOSTS | {urlsplit(origin).hostname or "" for origin in self._origins}
        self._tokens = tokens
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        policy = find_policy(self._policies, scope.get("method", "GET"), scope["path"])
        try:
            self._check_origin(headers, policy)
            scope["warmtalk.caller"] = self._authenticate(scope, headers, policy)
            if scope["type"] == "http":
                receive = limit_body(receive, headers, policy.max_body_bytes)
        except WarmtalkError as error:
            await _reject(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_origin(self, headers: Headers, policy: RoutePolicy) -> None:
        """Raises Forbidden for a request from another site. Browsers send Origin or Sec-Fetch-Site; other clients send
        neither and pass.
        """
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not self._key and urlsplit(f"//{host}").hostname not in self._hosts:
            # DNS rebinding: a foreign page whose host name resolves to this machine would count as same origin
            raise Forbidden(f"the Host header names another server: {host[:80]!r}",
                            "Use 127.0.0.1, or set gateway.allowed_origins")  # fmt: skip
        if origin:
            if urlsplit(origin).netloc != host and not self._origins & {origin, "*"}:
                raise Forbidden(f"pages of {origin[:80]} may not call", "Add the origin to gateway.allowed_origins")
        elif headers.get("sec-fetch-site") in ("cross-site", "same-site") and not policy.linkable:
            raise Forbidden("pages of other sites may not load this URL", "Add the origin to gateway.allowed_origins")

    def _authenticate(self, scope: Scope, headers: Headers, policy: RoutePolicy) -> Caller:
        """Returns the caller. Raises Unauthenticated without valid credentials, Forbidden if a page token is not
        enough. OPTIONS passes, because CORS preflights carry no credentials.
        """
        if not self._key or policy.access is Access.OPEN or scope.get("method") == "OPTIONS":
            return Caller()
        credentials = presented_keys(headers.items())
        if any(keys_match(text, self._key) for text in credentials):
            return Caller()
        # <video> elements and WebSockets cannot send headers
        credentials += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        for text in filter(None, credentials):
            if token := self._tokens.read(text, time.time()):
                _check_token(token, policy, scope["path"])
                return Caller(token)
        if any(credentials):
            raise Unauthenticated("the key or token is wrong, or the token has expired", "Ask for a new one")
        raise Unauthenticated(
            "this request needs the API key", "Send the key as X-Internal-API-Key or Authorization: Bearer"
        )


def allowed_origins(config: Config) -> list[str]:
    """Returns the configured origins of other sites with permission to call."""
    return [origin.strip() for origin in config.gateway.allowed_origins.split(",") if origin.strip()]


def _check_token(token: Token, policy: RoutePolicy, path: str) -> None:
    """Raises Forbidden unless the policy admits the page token."""
    own_path = SESSION_PATH.format(session_id=token.session_id)
    own_session = policy.access is Access.SESSION and f"{path}/".startswith(f"{own_path}/")
    if not own_session and policy.access is not Access.PAGE:
        raise Forbidden("a page's token does not open this", "Use the API key")


async def _reject(error: WarmtalkError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await problems.problem_response(error)(scope, receive, send)
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
