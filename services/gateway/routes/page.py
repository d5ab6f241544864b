"""The talk page: static files, read once, and the settings for the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import PurePath
from typing import Any

from starlette.responses import Response

from warmtalk.config import Config
from warmtalk.services.gateway.route_policy import Access, PolicyRouter

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
"""Fixed, because `mimetypes` reads the machine's tables and browsers refuse modules of another type."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_router(config: Config) -> PolicyRouter:
    """Returns the routes of the page. The files hold no secret and are open."""
    router = PolicyRouter()
    for file in (resources.files("warmtalk.services.gateway") / "page").iterdir():
        if media_type := _MEDIA_TYPES.get(PurePath(file.name).suffix):
            index = file.name == "index.html"
            endpoint = _static_file(file.read_bytes(), media_type)
            path = "/" if index else f"/{file.name}"
            router.add("GET", path, endpoint, Access.OPEN, linkable=index, include_in_schema=False)

    async def settings() -> dict[str, Any]:
        """Returns the settings needed by the page before a conversation."""
        gateway = config.gateway
        return {
            "avatar_id": config.avatar_id,
            "chat": bool(gateway.chat_url),
            "transcriptions": bool(gateway.transcriptions_url),
            "max_upload_mb": config.prep.max_upload_mb,
            "key": bool(config.api_key),
        }

    router.add("GET", "/v1/config", settings, Access.PAGE, tags=["page"])
    return router


def _static_file(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def respond() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return respond
