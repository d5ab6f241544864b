"""The FastAPI application: routes, error handlers, access middleware."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from warmtalk import __version__
from warmtalk.config import Config
from warmtalk.services.gateway import problems
from warmtalk.services.gateway.access import AccessMiddleware, allowed_origins
from warmtalk.services.gateway.backend import Backend
from warmtalk.services.gateway.chat_client import ChatClient
from warmtalk.services.gateway.live.registry import LiveStreamRegistry
from warmtalk.services.gateway.route_policy import Access, RoutePolicy
from warmtalk.services.gateway.routes.avatars import AvatarRoutes
from warmtalk.services.gateway.routes.health import health_router
from warmtalk.services.gateway.routes.live import LiveRoutes
from warmtalk.services.gateway.routes.page import page_router
from warmtalk.services.gateway.routes.sessions import SessionRoutes
from warmtalk.services.gateway.routes.speak import SpeakRoutes
from warmtalk.services.gateway.tokens import Tokens
from warmtalk.services.gateway.view_builder import ViewBuilder
from warmtalk.store import SessionStore


class GatewayApp(FastAPI):
    """FastAPI with OpenAPI components named by their title, independent of the Python class names."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document; built once."""
        if self.openapi_schema is None:
            self.openapi_schema = _named_by_title(super().openapi())
        return self.openapi_schema


def create_app(config: Config, backend: Backend, streams: LiveStreamRegistry, chat: ChatClient) -> GatewayApp:
    """Returns the application. The caller owns and closes `backend`, `streams` and `chat`."""
    app = GatewayApp(
        title="warmtalk", version=__version__, description="A talking avatar: text or audio in, video out."
    )
    problems.install_handlers(app)
    views = ViewBuilder(SessionStore(config.sessions_dir))
    tokens = Tokens(config.api_key, config.gateway.token_minutes)
    routers = (
        SpeakRoutes(backend, views, streams, config.gateway).router,
        SessionRoutes(backend, views, tokens, chat).router,
        AvatarRoutes(backend, config).router,
        LiveRoutes(streams, config.gateway).router,
        health_router(backend),
        page_router(config),
    )
    policies = [RoutePolicy("GET", "/docs", Access.KEY, linkable=True)]  # FastAPI adds this route
    for router in routers:
        app.include_router(router)
        policies += router.policies
    if origins := allowed_origins(config):
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
        )
    app.add_middleware(AccessMiddleware, config=config, tokens=tokens, policies=policies)
    return app


def _named_by_title(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI `document` with schema components renamed to their title."""
    components = document["components"]
    titles = {name: schema["title"] for name, schema in components["schemas"].items()}
    components["schemas"] = {titles[name]: schema for name, schema in components["schemas"].items()}

    def rename(node: Any) -> Any:
        if isinstance(node, list):
            return [rename(item) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(reference := node.get("$ref"), str):
            prefix, _, name = reference.rpartition("/")
            return {**node, "$ref": f"{prefix}/{titles[name]}"}
        return {key: rename(value) for key, value in node.items()}

    renamed: dict[str, Any] = rename(document)
    return renamed
