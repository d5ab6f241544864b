"""The application: routes, errors, the guard before them."""

from __future__ import annotations

import mimetypes
import time
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from warmtalk import __version__
from warmtalk.config import Config
from warmtalk.services.gateway import problems
from warmtalk.services.gateway.access import AccessMiddleware
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.routes.avatars import AvatarRoutes
from warmtalk.services.gateway.routes.live import LiveRoutes
from warmtalk.services.gateway.routes.sessions import SessionRoutes
from warmtalk.services.gateway.routes.speak import SpeakRoutes
from warmtalk.services.gateway.schemas import Views
from warmtalk.services.gateway.tokens import Tokens
from warmtalk.store import SessionStore

_JSON_BYTES = 256 << 10
_FORM_BYTES = 64 << 10
"""What a form adds to its file."""
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create(config: Config, backend: Backend, hub: LiveStreamRegistry, partner: ChatClient) -> FastAPI:
    views, tokens = (
        Views(SessionStore(config.sessions_dir)),
        Tokens(config.api_key, config.gateway.token_minutes),
    )
    app = FastAPI(title="warmtalk", version=__version__, description="A talking avatar: text or sound in, video out.")
    problems.install(app)
    app.include_router(SpeakRoutes(backend, views, hub, config.gateway).router)
    app.include_router(SessionRoutes(backend, views, tokens, partner).router)
    app.include_router(AvatarRoutes(backend, config).router)
    app.include_router(LiveRoutes(hub, config.gateway).router)
    app.include_router(_health(backend))
    app.include_router(_page(config))
    origins = [one.strip() for one in config.gateway.allowed_origins.split(",") if one.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
        )
    app.add_middleware(AccessMiddleware, config=config, tokens=tokens, limit=lambda *what: _limit(config, *what))
    return app


def _limit(config: Config, method: str, path: str) -> int:
    if path == "/v1/avatars":
        return (config.prep.max_upload_mb << 20) + _FORM_BYTES
    if path == "/v1/speak" or path == "/v1/transcriptions":
        return (config.gateway.max_audio_mb << 20) + _FORM_BYTES
    return _JSON_BYTES


def _health(backend: Backend) -> APIRouter:
    router, started = APIRouter(tags=["health"]), time.monotonic()

    async def live() -> dict[str, Any]:
        """This process answers."""
        return {"status": "ok", "version": __version__, "uptime_s": round(time.monotonic() - started, 1)}

    async def ready() -> JSONResponse:
        """200 when the services behind it answer too, else 503."""
        states = await backend.states()
        up = set(states.values()) == {"up"}
        return JSONResponse({"status": "ok" if up else "not ready", "services": states}, 200 if up else 503)

    router.add_api_route("/health", live, methods=["GET"])
    router.add_api_route("/v1/health/live", live, methods=["GET"])
    router.add_api_route("/v1/health/ready", ready, methods=["GET"])
    return router


def _page(config: Config) -> APIRouter:
    """The talk page: three files, read once."""
    router, folder = APIRouter(), resources.files("warmtalk.services.gateway") / "page"
    for name in ("index.html", "page.js", "page.css"):
        body, kind = (folder / name).read_bytes(), mimetypes.guess_type(name)[0]
        router.add_api_route(
            "/" if name == "index.html" else f"/{name}", _file(body, kind), methods=["GET"], include_in_schema=False
        )

    async def settings() -> dict[str, Any]:
        """What the page must know."""
        gateway = config.gateway
        return {
            "avatar_id": config.avatar_id,
            "chat": bool(gateway.chat_url),
            "transcriptions": bool(gateway.transcriptions_url),
            "max_upload_mb": config.prep.max_upload_mb,
            "key": bool(config.api_key),
        }

    router.add_api_route("/v1/config", settings, methods=["GET"], tags=["page"])
    return router


def _file(body: bytes, kind: str | None) -> Any:
    async def answer() -> Response:
        return Response(body, media_type=kind, headers=_PAGE_HEADERS)

    return answer
