"""The programs in examples/, each as a child process, against a running stack."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import httpx
import pytest
from websockets.asyncio.client import connect

from tests.audio import syllables, wav
from tests.e2e.stack import LocalStack

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(stack: LocalStack, *command: str) -> str:
    """Standard output of an example that must succeed."""
    environ = {**stack.environ, "WARMTALK_URL": f"http://{stack.environ['WARMTALK_GATEWAY_LISTEN']}"}
    done = subprocess.run(command, cwd=stack.folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def frames_and_samples(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as file:
        frames = sum(1 for _ in file.decode(video=0))
    with av.open(str(path)) as file:
        return frames, sum(frame.samples for frame in file.decode(audio=0))


def test_speak_prints_the_clip(stack: LocalStack) -> None:
    address = stack.environ["WARMTALK_SESSION_LISTEN"]
    printed = run_example(
        stack, sys.executable, str(EXAMPLES / "speak.py"), "Hello there.",
        "--session", "example-speak", "--avatar", "eileen", "--address", address,
    )  # fmt: skip
    assert "first frame after" in printed
    clip = next(line.split("file://")[1] for line in printed.splitlines() if line.startswith("clip"))
    frames, samples = frames_and_samples(Path(clip))
    assert frames > 10
    assert samples == frames * 1920


@pytest.mark.parametrize("interrupt_after", [None, 1.0])
def test_converse_saves_the_live_video(stack: LocalStack, interrupt_after: float | None) -> None:
    (stack.folder / "speech.wav").write_bytes(wav(syllables(2.0)))
    session = f"example-live-{interrupt_after}".replace(".", "-").lower()
    more = [] if interrupt_after is None else ["--interrupt-after", str(interrupt_after)]
    printed = run_example(
        stack, sys.executable, str(EXAMPLES / "converse_pcm.py"), "speech.wav", "live.mp4",
        "--session", session, "--avatar", "eileen", "--address", stack.environ["WARMTALK_SESSION_LISTEN"], *more,
    )  # fmt: skip
    assert "speech starts" in printed
    assert ("interrupted after" in printed) == (interrupt_after is not None)
    with av.open(str(stack.folder / "live.mp4")) as file:
        live_s = max(float(frame.pts * frame.time_base) for frame in file.decode(video=0))
    assert live_s > (interrupt_after or 2.0)
    clip = next(line.split("file://")[1] for line in printed.splitlines() if line.startswith("clip"))
    frames, _ = frames_and_samples(Path(clip))
    assert (frames >= 50) == (interrupt_after is None)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_downloads_the_conversation(stack: LocalStack) -> None:
    printed = run_example(stack, "sh", str(EXAMPLES / "http_curl.sh"), "photo.png", "Hello from curl.", "curl.mp4")
    assert "wrote curl.mp4" in printed
    frames, samples = frames_and_samples(stack.folder / "curl.mp4")
    assert samples == frames * 1920


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
async def test_node_pipes_the_live_video_and_its_control_connection(stack: LocalStack) -> None:
    environ = {
        **stack.environ, "PORT": "0", "AVATAR": "eileen", "SESSION": "example-node",
        "WARMTALK_URL": f"http://{stack.environ['WARMTALK_GATEWAY_LISTEN']}",
    }  # fmt: skip
    node = subprocess.Popen(  # noqa: ASYNC220 - starts at once
        ["node", str(EXAMPLES / "node_proxy" / "server.mjs")], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert node.stdout is not None
        url = (await asyncio.to_thread(node.stdout.readline)).strip().rstrip("/")
        async with httpx.AsyncClient(timeout=30) as http:
            assert "<video" in (await http.get(url)).text
            async with http.stream("GET", f"{url}/live.mp4") as live:
                assert live.headers["content-type"] == "video/mp4"
                chunks = live.aiter_bytes()
                assert b"ftyp" in await anext(chunks)
                async with connect(url.replace("http", "ws") + "/live") as socket:
                    await socket.send(json.dumps({"type": "text", "text": "Hello from Node."}))
                    await socket.send(json.dumps({"type": "end"}))
                    reader = asyncio.create_task(drain(chunks))
                    events = [json.loads(await asyncio.wait_for(socket.recv(), 30))["event"]]
                    while events[-1] != "finished":
                        events.append(json.loads(await asyncio.wait_for(socket.recv(), 30))["event"])
                    reader.cancel()
        assert "clip_ready" in events
    finally:
        node.terminate()
        node.wait(10)
        if node.stdout is not None:
            node.stdout.close()


async def drain(chunks: object) -> None:
    """Reads the video so that the stream never waits for this viewer."""
    async for _ in chunks:  # type: ignore[attr-defined]
        pass


def test_every_example_says_how_to_run_it() -> None:
    programs = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".sh", ".mjs")]
    assert len(programs) == 4
    for path in programs:
        head = path.read_text("utf-8")[:600]
        assert path.name in head, f"{path} does not show its command"
    assert os.access(EXAMPLES / "http_curl.sh", os.X_OK)
