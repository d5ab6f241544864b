"""Rejected requests: keys, tokens, other sites, body sizes, path tricks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.gateway.harness import GatewayHarness, running
from warmtalk.config import Config, GatewayConfig
from warmtalk.core.errors import InvalidInput
from warmtalk.services.gateway.tokens import LIFE_S, Tokens
from warmtalk.services.gateway.wiring import Gateway

KEY = {"X-Internal-API-Key": "secret"}


@pytest_asyncio.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running(tmp_path, max_audio_mb=1, allowed_origins="https://friend.example") as harness:
        yield harness


@pytest_asyncio.fixture
async def locked(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running(tmp_path, api_key="secret") as harness:
        yield harness


def problem(answer: httpx.Response, status: int, reason: str) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, str] = answer.json()
    assert body["reason"] == reason, body
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("GET", "/v1/sessions/nobody", None, 404, "NOT_FOUND"),
        ("GET", "/v1/sessions/S!", None, 400, "INVALID_INPUT"),
        ("GET", "/v1/sessions/..%2f..%2fetc", None, 404, "NOT_FOUND"),
        ("GET", "/v1/sessions/%2e%2e/conversation.mp4", None, 400, "INVALID_INPUT"),
        ("GET", "/v1/sessions/a%00b", None, 400, "INVALID_INPUT"),
        ("GET", "/v1/sessions/ann/clips/..%2f1.mp4", None, 404, "NOT_FOUND"),
        ("GET", "/v1/sessions/ann/clips/x.mp4", None, 400, "INVALID_INPUT"),
        ("GET", "/v1/avatars/..", None, 404, "NOT_FOUND"),
        ("GET", "/v1/status/nobody", None, 404, "NOT_FOUND"),
        ("GET", "/v1/avatars/nobody/events", None, 404, "NOT_FOUND"),
        ("DELETE", "/v1/avatars/nobody", None, 404, "NOT_FOUND"),
        ("POST", "/v1/avatars?avatar_id=../x", b"x", 400, "INVALID_INPUT"),
        ("POST", "/v1/avatars?avatar_id=x", b"this is no picture", 422, "BAD_MEDIA"),
        ("POST", "/v1/sessions", b'{"avatar_id": "nobody"}', 404, "NOT_FOUND"),
        ("POST", "/v1/sessions", b"[1]", 400, "INVALID_INPUT"),
        ("POST", "/v1/speak", b"not json", 400, "INVALID_INPUT"),
        ("POST", "/v1/speak", b"{}", 400, "INVALID_INPUT"),
        ("POST", "/v1/speak", b'{"text": 7}', 400, "INVALID_INPUT"),
        ("POST", "/v1/speak", b'{"text": "..."}', 400, "INVALID_INPUT"),
        ("POST", "/v1/speak", b'{"text": "Hi.", "session_id": "../x"}', 400, "INVALID_INPUT"),
        ("POST", "/speak", b'{"words": "Hi."}', 400, "INVALID_INPUT"),
        ("PUT", "/v1/sessions", b"", 405, "INVALID_INPUT"),
        ("GET", "/nowhere", None, 404, "NOT_FOUND"),
    ],
)
async def test_a_bad_request_is_answered_with_a_problem_and_a_reason(
    harness: GatewayHarness, method: str, path: str, body: bytes | None, status: int, reason: str
) -> None:
    headers = {"Content-Type": "application/json"} if body and body[:1] in b"{[n" else {}
    problem(await harness.http.request(method, path, content=body, headers=headers), status, reason)


async def test_too_large_bodies_are_rejected(harness: GatewayHarness) -> None:
    large = b"x" * (3 << 20)
    problem(await harness.http.post("/v1/avatars?avatar_id=x", content=large), 413, "TOO_LARGE")
    problem(await harness.http.post("/v1/speak", files={"audio": ("a.wav", large)}), 413, "TOO_LARGE")
    problem(await harness.http.post("/v1/sessions", content=large), 413, "TOO_LARGE")

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (64 << 10)

    for path in ("/v1/avatars?avatar_id=x", "/v1/sessions"):
        answer = await harness.http.post(path, content=unannounced(), headers={"Content-Type": "application/json"})
        problem(answer, 413, "TOO_LARGE")
    assert (await harness.http.get("/v1/avatars/x")).status_code == 404


async def test_other_sites_are_rejected_unless_configured(harness: GatewayHarness) -> None:
    problem(await harness.http.get("/v1/sessions", headers={"Origin": "https://evil.example"}), 403, "FORBIDDEN")
    problem(await harness.http.get("/reset", headers={"Sec-Fetch-Site": "cross-site"}), 403, "FORBIDDEN")
    problem(await harness.http.get("/v1/sessions", headers={"Host": "evil.example:8000"}), 403, "FORBIDDEN")
    same_origin = await harness.http.get("/v1/sessions", headers={"Origin": f"http://{harness.address}"})
    assert same_origin.status_code == 200
    friend = await harness.http.get("/v1/sessions", headers={"Origin": "https://friend.example"})
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    preflight = {"Origin": "https://friend.example", "Access-Control-Request-Method": "POST"}
    assert (await harness.http.options("/v1/speak", headers=preflight)).status_code == 200
    assert (await harness.http.get("/", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


async def test_every_route_needs_the_key(locked: GatewayHarness) -> None:
    paths = (await locked.http.get("/openapi.json", headers=KEY)).json()["paths"]
    open_paths = {"/health", "/v1/health/live", "/v1/health/ready"}
    for path, methods in paths.items():
        for method in methods:
            answer = await locked.http.request(method, path.replace("{", "").replace("}", ""))
            if path in open_paths:
                assert answer.status_code == 200
            else:
                problem(answer, 401, "UNAUTHENTICATED")
    problem(await locked.http.get("/docs"), 401, "UNAUTHENTICATED")
    problem(await locked.http.get("/v1/sessions", headers={"X-Internal-API-Key": "wrong"}), 401, "UNAUTHENTICATED")
    assert (await locked.http.get("/v1/sessions", headers=KEY)).status_code == 200
    assert (await locked.http.get("/v1/sessions", headers={"Authorization": "Bearer secret"})).status_code == 200
    assert (await locked.http.get("/")).status_code == 200


async def test_a_page_token_opens_its_own_session_alone(locked: GatewayHarness) -> None:
    http = locked.http
    await http.post("/v1/sessions", json={"session_id": "other", "avatar_id": "ann"}, headers=KEY)
    issued = (await http.post("/v1/token", json={"session_id": "mine"}, headers=KEY)).json()
    bearer = {"Authorization": f"Bearer {issued['token']}"}
    mine = {"session_id": "mine", "avatar_id": "ann"}
    assert (await http.post("/v1/sessions", json=mine, headers=bearer)).status_code == 201
    spoken = await http.post("/v1/speak", json=mine | {"text": "Hello."}, headers=bearer)
    assert spoken.status_code == 200, spoken.text
    assert (await http.get(f"{spoken.json()['conversation']['url']}&token={issued['token']}")).status_code == 200
    assert (await http.get("/v1/avatars", headers=bearer)).status_code == 200
    problem(await http.get("/v1/sessions/other", headers=bearer), 403, "FORBIDDEN")
    problem(await http.get("/v1/sessions/mine/../other", headers=bearer), 403, "FORBIDDEN")
    problem(await http.get("/v1/sessions", headers=bearer), 403, "FORBIDDEN")
    problem(await http.get("/v1/sessions/mine2", headers=bearer), 403, "FORBIDDEN")
    problem(await http.delete("/v1/avatars/ann", headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/avatars?replace=true", content=b"x", headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/sessions", json={"session_id": "other"}, headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/sessions", json={"avatar_id": "ann"}, headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/speak", json={"text": "Hi.", "session_id": "other"}, headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/speak", json={"text": "Hi."}, headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/speak", json={"text": "Hi."}, headers=bearer), 403, "FORBIDDEN")
    problem(await http.post("/v1/token", json={"session_id": "other"}, headers=bearer), 403, "FORBIDDEN")
    renewed = (await http.post("/v1/token", json={}, headers=bearer)).json()
    assert renewed["session_id"] == "mine"
    forged = issued["token"].replace("mine", "other", 1)
    problem(await http.get("/v1/sessions/other", headers={"Authorization": f"Bearer {forged}"}), 401, "UNAUTHENTICATED")


def test_a_token_expires_and_its_renewal_is_limited() -> None:
    tokens, now = Tokens("secret", minutes=60), time.time()
    text, _ = tokens.issue("mine", now)
    assert tokens.read(text, now + 3500)
    assert tokens.read(text, now + 3601) is None
    assert Tokens("other", 60).read(text, now) is None
    for bad in ("", ".", "a.b.c.d", text[:-1], "mine.1.2." + text[-10:]):
        assert tokens.read(bad, now) is None
    late = now + LIFE_S - 60
    renewed, _ = tokens.issue("mine", late, now + LIFE_S)
    assert tokens.read(renewed, late + 59)
    assert tokens.read(renewed, late + 61) is None


async def test_the_gateway_does_not_serve_the_network_without_a_key() -> None:
    for listen, words in (("0.0.0.0:0", "no API key"), ("[::]:0", "no API key"), ("8000", "host:port")):
        with pytest.raises(InvalidInput, match=words):
            Gateway(Config(gateway=GatewayConfig(listen=listen)))
