"""/health and /v1/health: liveness and readiness."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import JSONResponse

from warmtalk import __version__
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.route_policy import Access, PolicyRouter


def health_router(backend: Backend) -> PolicyRouter:
    """Returns the health routes. Open, because the health check of a container has no key."""
    router, started = PolicyRouter("health"), time.monotonic()

    async def live() -> dict[str, Any]:
        """Answers while the gateway process runs."""
        return {"status": "ok", "version": __version__, "uptime_s": round(time.monotonic() - started, 1)}

    async def ready() -> JSONResponse:
        """Answers 200 when prep, infer and session are up too, else 503."""
        states = await backend.service_states()
        up = set(states.values()) == {"up"}
        return JSONResponse({"status": "ok" if up else "not ready", "services": states}, 200 if up else 503)

    router.add("GET", "/health", live, Access.OPEN)
    router.add("GET", "/v1/health/live", live, Access.OPEN)
    router.add("GET", "/v1/health/ready", ready, Access.OPEN)
    return router
