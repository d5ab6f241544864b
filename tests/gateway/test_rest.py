"""REST: speaking, sessions, videos with Range, avatars, health, legacy routes."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import av
import pytest
import pytest_asyncio

from tests.audio import syllables, wav
from tests.gateway.harness import GatewayHarness, running


@pytest_asyncio.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with running(tmp_path) as harness:
        yield harness


async def test_a_text_becomes_a_clip_and_a_conversation(harness: GatewayHarness) -> None:
    answer = await harness.speak("Hello there my friend.")
    assert answer.status_code == 200, answer.text
    spoken = answer.json()
    assert spoken["clip"]["text"] == "Hello there my friend."
    assert spoken["clip"]["frames"] == 10
    second = (await harness.speak("And on.")).json()
    assert second["clip"]["start_s"] == 0.4
    assert second["conversation"]["duration_s"] == 0.6
    video = await harness.http.get(second["conversation"]["url"])
    assert video.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(video.content)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 15
    clip = await harness.http.get(second["clip"]["url"])
    with av.open(io.BytesIO(clip.content)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 5


async def test_an_audio_file_becomes_a_clip(harness: GatewayHarness) -> None:
    files = {"audio": ("a.wav", wav(syllables(0.5)), "audio/wav")}
    answer = await harness.http.post("/v1/speak", files=files, data={"session_id": "s1", "avatar_id": "ann"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["clip"]["frames"] == 13


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/event-stream"])
async def test_events_are_streamed_on_request(harness: GatewayHarness, kind: str) -> None:
    body = {"text": "Hello there.", "session_id": "s1"}
    async with harness.http.stream("POST", "/v1/speak", json=body, headers={"Accept": kind}) as answer:
        assert answer.headers["content-type"].startswith(kind)
        lines = [line async for line in answer.aiter_lines()]
    payloads = [line.removeprefix("data: ") for line in lines if line.startswith(("{", "data: "))]
    events = [json.loads(line)["event"] for line in payloads]
    assert events[0] == "accepted"
    assert events[-3:] == ["clip_ready", "conversation_updated", "finished"]
    assert "progress" in events


async def test_an_error_during_a_stream_is_the_last_event(harness: GatewayHarness) -> None:
    harness.infer.hold_at = 2
    events: list[dict[str, Any]] = []
    async with harness.http.stream(
        "POST", "/v1/speak", json={"text": "A long one to say."}, headers={"Accept": "application/x-ndjson"}
    ) as answer:
        async for line in answer.aiter_lines():
            events.append(json.loads(line))
            if len(events) == 1:
                await harness.infer.held.wait()
                await harness.http.post("/v1/sessions/default/reset")
    assert events[-1]["event"] == "error"
    assert events[-1]["reason"] == "INTERRUPTED"
    harness.infer.go.set()


async def test_a_disconnect_cancels_the_speak(harness: GatewayHarness) -> None:
    harness.infer.hold_at = 2
    work = asyncio.create_task(harness.speak("One two three four five."))
    await harness.infer.held.wait()
    work.cancel()
    for _ in range(100):
        session = (await harness.http.get("/v1/sessions/s1")).json()
        if session["state"] == "idle":
            break
        await asyncio.sleep(0.02)
    assert session["state"] == "idle"
    assert session["conversation"]["clips"] == []
    harness.infer.go.set()


async def test_session_lifecycle(harness: GatewayHarness) -> None:
    made = await harness.http.post("/v1/sessions", json={"avatar_id": "ann"})
    assert made.status_code == 201, made.text
    session_id = made.json()["session_id"]
    await harness.speak("Hello.", session_id)
    listed = (await harness.http.get("/v1/sessions")).json()["sessions"]
    assert [one["session_id"] for one in listed] == [session_id]
    closed = (await harness.http.post(f"/v1/sessions/{session_id}/reset")).json()
    assert len(closed["closed"]["clips"]) == 1
    assert (
        closed["session"]["conversation"] | {"number": 2, "url": "", "clips": []} == closed["session"]["conversation"]
    )
    assert (await harness.http.get(f"/v1/sessions/{session_id}/conversation.mp4")).status_code == 404
    assert (await harness.http.get(f"/v1/sessions/{session_id}/conversation.mp4?number=1")).status_code == 200
    again = await harness.http.post(f"/v1/sessions/{session_id}/reset", json={"delete": True})
    assert again.json()["closed"] is None
    assert (await harness.http.delete(f"/v1/sessions/{session_id}")).status_code == 204
    assert (await harness.http.get(f"/v1/sessions/{session_id}")).status_code == 404


async def test_videos_support_ranges_and_a_sized_view_does_not_grow(harness: GatewayHarness) -> None:
    url = (await harness.speak("Hello there.")).json()["conversation"]["url"]
    whole = await harness.http.get(url)
    size, tag = len(whole.content), whole.headers["etag"]
    part = await harness.http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    assert (await harness.http.get(url, headers={"Range": "bytes=-5"})).content == whole.content[-5:]
    assert (await harness.http.get(url, headers={"Range": f"bytes={size - 3}-"})).content == whole.content[-3:]
    assert (await harness.http.get(url, headers={"Range": f"bytes={size}-"})).status_code == 416
    assert (await harness.http.get(url, headers={"Range": "bytes=0-1,4-5"})).status_code == 200
    assert (await harness.http.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})).status_code == 200
    assert (await harness.http.get(url, headers={"If-None-Match": tag})).status_code == 304
    head = await harness.http.head(url)
    assert (head.headers["content-length"], head.content) == (str(size), b"")
    longer = (await harness.speak("And more.")).json()["conversation"]["url"]
    same = await harness.http.get(url)
    assert (same.headers["etag"], len(same.content)) == (tag, size)
    assert same.content[2000:] == whole.content[2000:]  # only the duration in the header changes
    assert len((await harness.http.get(longer)).content) > size
    saved = await harness.http.get(longer + "&download=true")
    assert saved.headers["content-disposition"] == 'attachment; filename="s1-1.mp4"'


async def test_an_avatar_is_uploaded_watched_and_deleted(harness: GatewayHarness, portrait: Path) -> None:
    photo = await asyncio.to_thread(portrait.read_bytes)
    sent = await harness.http.post("/v1/avatars", files={"file": ("Eileen C.png", photo, "image/png")})
    assert sent.status_code == 202, sent.text
    job = sent.json()
    assert (job["job_id"], job["status"]) == ("eileen-c", "processing")
    async with harness.http.stream("GET", "/v1/avatars/eileen-c/events") as answer:
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    last = json.loads(lines[-1].removeprefix("data: "))
    assert (last["status"], last["progress"]) == ("completed", 1.0)
    assert (await harness.http.get("/v1/status/eileen-c")).json()["status"] == "completed"
    names = [one["avatar_id"] for one in (await harness.http.get("/v1/avatars")).json()["avatars"]]
    assert names == ["ann", "eileen-c"]
    raw = await harness.http.post("/v1/avatars?avatar_id=raw&file_name=a.png", content=photo)
    assert raw.status_code == 202, raw.text
    assert (await harness.http.delete("/v1/avatars/raw")).status_code == 204
    assert (await harness.http.delete("/v1/avatars/eileen-c")).status_code == 204
    assert (await harness.http.get("/v1/avatars/eileen-c")).status_code == 404


async def test_the_legacy_routes_answer_like_the_warm_server(harness: GatewayHarness) -> None:
    spoken = await harness.http.post("/speak", json={"text": "Hello there."})
    assert spoken.status_code == 200, spoken.text
    assert spoken.json()["status"] == "ok"
    assert Path(spoken.json()["video_path"]).name == "conversation.mp4"
    assert (await harness.http.get(spoken.json()["video_url"])).status_code == 200
    reset = (await harness.http.get("/reset")).json()
    assert reset == {"status": "ok", "video_path": spoken.json()["video_path"]}
    assert (await harness.http.get("/reset")).json() == {"status": "ok", "video_path": None}


async def test_the_page_and_all_of_its_files_are_served(harness: GatewayHarness) -> None:
    index = await harness.http.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    names = set(re.findall(r'(?:src|href)="([\w.]+)"', index.text))
    assert "main.js" in names
    scripts = {name for name in names if name.endswith(".js")} | {"worklet.js"}
    for name in scripts | {"page.css"}:
        file = await harness.http.get(f"/{name}")
        assert file.status_code == 200, name
        media_type = "text/css" if name == "page.css" else "text/javascript"
        assert file.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert file.headers["cache-control"] == "no-cache"
        assert file.headers["content-security-policy"].startswith("default-src 'self'")
        assert file.headers["x-content-type-options"] == "nosniff"
        assert set(re.findall(r'from "\./([\w.]+)"', file.text)) <= scripts, "the index preloads every module"
    page = resources.files("warmtalk.services.gateway") / "page"
    assert {file.name for file in page.iterdir()} == scripts | {"page.css", "index.html"}


async def test_health_and_the_documentation(harness: GatewayHarness) -> None:
    assert (await harness.http.get("/health")).json()["status"] == "ok"
    assert (await harness.http.get("/v1/health/live")).status_code == 200
    ready = await harness.http.get("/v1/health/ready")
    assert ready.json()["services"] == {"prep": "up", "infer": "up", "session": "up"}
    routes = (await harness.http.get("/openapi.json")).json()["paths"]
    assert "/v1/sessions/{session_id}/conversation.mp4" in routes
    assert (await harness.http.get("/docs")).status_code == 200
    page = await harness.http.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    await harness.stop_session()
    down = await harness.http.get("/v1/health/ready")
    assert (down.status_code, down.json()["services"]["session"]) == (503, "down")
    rejected = await harness.speak("Hello.")
    assert (rejected.status_code, rejected.json()["reason"]) == (503, "UNREACHABLE")
    assert rejected.headers["retry-after"] == "2"
